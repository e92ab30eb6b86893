"""The peak memory of this process."""

import re
import sys
from pathlib import Path


def peak_memory() -> int:
    """The largest number of bytes that were resident in this process at once."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would include the parent process's peak
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if peak:
            return int(peak[1]) * 1024
    import resource

    peak_of_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_of_process if sys.platform == "darwin" else peak_of_process * 1024

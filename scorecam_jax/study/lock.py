"""A lock: one run at a time in a folder of results."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder.

    The file `.lock` names the process that holds the lock. The lock itself is the operating
    system's and ends with the process, so that a crash leaves nothing to clean up. Where there are
    no such locks (Windows, some network drives), other runs are not kept out.

    Raises:
        ValueError: another run uses the folder.
        OSError: the folder cannot be written to.
    """
    if fcntl is None:
        yield
        return
    path = folder / ".lock"
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise ValueError(
                f"another run writes to {folder} at this moment: {holder}. Wait for it to end, or "
                "name another folder"
            ) from None
        except OSError:
            pass  # this file system has no locks
        # The last holder may have removed the file between its opening and its locking here.
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            break
        os.close(file)
    try:
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)

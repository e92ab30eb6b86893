"""`scorecam`, which `python -m scorecam_jax` runs too: it begins before slow imports."""

import signal
import sys


def main() -> int:
    """Run the command line; Ctrl-C while it is imported ends the process without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from scorecam_jax.cli.main import main as run

    signal.signal(signal.SIGINT, before)
    return run()


if __name__ == "__main__":
    sys.exit(main())

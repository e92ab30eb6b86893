"""`python -m scorecam_jax` is the command `scorecam`."""

import sys

from scorecam_jax.cli.start import main

if __name__ == "__main__":
    sys.exit(main())

"""Packages that an extra installs."""

import importlib
from typing import Any


def required(module: str, extra: str) -> Any:
    """Import a module that an extra installs.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"the package {package} is not installed: pip install 'scorecam_jax[{extra}]'"
        ) from error

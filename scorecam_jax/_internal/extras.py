"""Packages that an extra installs."""

import importlib
from typing import Any


def required(module: str, extra: str, by: str | None = None) -> Any:
    """Import a module that an extra installs.

    Args:
        module: its name.
        extra: the extra that installs it.
        by: the function that needs it, for the message.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        what = f"{by} needs {package}" if by else f"the package {package} is not installed"
        raise ImportError(f"{what}: pip install 'scorecam_jax[{extra}]'") from error

"""Files in installed Python packages."""

import importlib.util
from pathlib import Path

from scorecam_jax._internal.files import digest

_EXTRA = "scorecam_jax[demo]"


def checked_file(module: str, file: str, sha256: str, install: str = _EXTRA) -> Path:
    """The path of a package's file, after a check of its hash.

    Raises:
        ImportError: the package is not installed.
        ValueError: the file differs from the published one.
    """
    path = resource(module, file, install)
    found = digest(path)
    if found != sha256:
        raise ValueError(
            f"{path} has sha256 {found}, wanted {sha256}: reinstall the package {module}"
        )
    return path


def resource(module: str, file: str, install: str = _EXTRA) -> Path:
    """The path of a package's file; the package is not imported.

    Raises:
        ImportError: the package is not installed.
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"the package {module} is not installed: pip install '{install}'")
    return Path(found.submodule_search_locations[0], file)

"""Compiled programs, kept from one call of the command to the next."""

import hashlib
import os
import platform
import sys
from pathlib import Path


def keep_compiled_programs() -> None:
    """Have JAX keep compiled programs in the user's cache folder.

    A folder that `JAX_COMPILATION_CACHE_DIR` names takes precedence. Where the folder cannot be
    written to, nothing is kept.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    # A program compiled for one processor may not run on another that shares the home folder.
    folder = user_cache() / "scorecam_jax" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def user_cache() -> Path:
    """The folder for caches: `$XDG_CACHE_HOME`, or the platform's own."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"


def _processor() -> str:
    """A name for processors that run the same programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"

"""Settings every test runs under: shapes checked, ambiguous broadcasting refused."""

import os

# Tests compile far more than they compute.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ["KERAS_BACKEND"] = "jax"

from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("scorecam_jax", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forget compiled programs before they exhaust the memory mappings that a process may have."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()

"""Settings every test runs under: shapes checked, ambiguous broadcasting refused."""

import importlib.metadata
import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# Tests compile far more than they compute. XLA reads its flags when it is first used, and stops at
# one that it does not know.
FLAGS = ["--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
os.environ["KERAS_BACKEND"] = "jax"

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

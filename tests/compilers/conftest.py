import os

import jax
import pytest

from benchmarks.compilers import ENVIRONMENT


@pytest.fixture(scope="session", autouse=True)
def environment():
    """Make this process look for no TPU or GPU, and compile with users' settings."""
    os.environ.update(ENVIRONMENT)
    # The flags of tests/conftest.py are for the CPU's compiler.
    os.environ["XLA_FLAGS"] = ""
    jax.config.update("jax_platforms", ENVIRONMENT["JAX_PLATFORMS"])
    jax.config.update("jax_default_matmul_precision", None)

"""Settings of all tests: shapes are checked, and ambiguous broadcasting is refused."""

import importlib.metadata
import os
import signal
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# Tests spend more time on compiling than on computing. XLA reads its flags when it is first used,
# and aborts if it does not know one.
FLAGS = ["--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU

install_import_hook("scorecam_jax", "beartype.beartype")


def pytest_configure(config):
    """Compile equal programs once for all processes and runs of the tests."""
    if getattr(config, "cache", None) is not None:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)

# Accelerators round the factors of products unless full precision is requested.
jax.config.update("jax_default_matmul_precision", "highest")
# A TPU serves one process: the first of those that share the tests.
if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0" and "tpu" in str(jax.config.jax_platforms):
    jax.config.update("jax_platforms", "cpu")


@pytest.fixture(scope="session", autouse=True)
def children_on_the_cpu():
    """Make processes started by tests use the CPU. In this process, JAX has chosen its platform."""
    os.environ["JAX_PLATFORMS"] = "cpu"


@pytest.fixture
def cpus():
    """Eight CPU devices; the test's arrays and programs are on the first one by default."""
    devices = jax.devices("cpu")
    with jax.default_device(devices[0]):
        yield devices


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Discard compiled programs before they exhaust the process's memory mappings."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def interruptible():
    """Make Ctrl-C work even if the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path

"""Settings every test runs under: shapes checked, ambiguous broadcasting refused."""

import os

# Tests compile far more than they compute.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ["KERAS_BACKEND"] = "jax"

import jax
from jaxtyping import install_import_hook

install_import_hook("scorecam_jax", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)

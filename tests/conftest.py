"""Settings every test runs under: shapes checked, ambiguous broadcasting refused."""

import jax
from jaxtyping import install_import_hook

install_import_hook("scorecam_jax", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)

"""Names for the help, which is printed without waiting for JAX.

A test holds them equal to the library's own.
"""

from scorecam_jax.methods import METHODS as _METHODS
from scorecam_jax.methods import VARIANTS as VARIANTS

METHODS = tuple(_METHODS)

PRESETS = ("score-cam-64",)

DEFAULT_METHODS = ("score-cam", "score-cam-64", "grad-cam", "grad-cam++", "uniform", "center")

METRICS = (
    "average-drop", "average-increase", "average-gain", "insertion", "deletion", "adcc", "road",
    "energy", "pointing", "box-acc",
)  # fmt: skip

COLORMAPS = ("ember", "jet", "gray")

DEFAULT_MODEL = "efficientnet_lite0"

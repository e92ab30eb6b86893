"""Names for the help, which is printed without waiting for JAX.

A test holds them equal to the library's own.
"""

from scorecam_jax.methods import METHODS as _METHODS
from scorecam_jax.methods import VARIANTS as VARIANTS
from scorecam_jax.metrics import ENTRIES as _ENTRIES

METHODS = tuple(_METHODS)

PRESETS = ("score-cam-64",)

DEFAULT_METHODS = ("score-cam", "score-cam-64", "grad-cam", "grad-cam++", "uniform", "center")

METRICS = tuple(_ENTRIES)

NOT_DEFAULT = tuple(name for name, entry in _ENTRIES.items() if not entry.default)

COLORMAPS = ("ember", "jet", "gray")

DEFAULT_MODEL = "efficientnet_lite0"

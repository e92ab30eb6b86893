"""Score-CAM for JAX: see what a vision model looked at."""

from scorecam_jax._internal.per_input import per_input as per_input
from scorecam_jax.adapters import LayerInfo as LayerInfo
from scorecam_jax.adapters import Model as Model
from scorecam_jax.adapters import from_equinox as from_equinox
from scorecam_jax.adapters import from_haiku as from_haiku
from scorecam_jax.adapters import from_keras as from_keras
from scorecam_jax.adapters import from_linen as from_linen
from scorecam_jax.adapters import from_nnx as from_nnx
from scorecam_jax.adapters import list_layers as list_layers
from scorecam_jax.engine.score_masks import score_masks as score_masks
from scorecam_jax.methods import family as family
from scorecam_jax.methods import gradient as gradient
from scorecam_jax.methods import variants as variants
from scorecam_jax.methods.base import Explanation as Explanation
from scorecam_jax.methods.fusion import fuse_layers as fuse_layers
from scorecam_jax.methods.score_cam import score_cam as score_cam
from scorecam_jax.methods.variants import OFFICIAL as OFFICIAL
from scorecam_jax.methods.variants import Variant as Variant
from scorecam_jax.steps import masks as masks
from scorecam_jax.steps import scores as scores
from scorecam_jax.steps import weights as weights
from scorecam_jax.steps.channels import Deviation as Deviation
from scorecam_jax.steps.channels import Gradient as Gradient

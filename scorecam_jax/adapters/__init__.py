"""Adapters: a user's model, unmodified, as a `Model` that shows one of its layers."""

from scorecam_jax.adapters.equinox import from_equinox as from_equinox
from scorecam_jax.adapters.function import from_function as from_function
from scorecam_jax.adapters.haiku import from_haiku as from_haiku
from scorecam_jax.adapters.keras import from_keras as from_keras
from scorecam_jax.adapters.linen import from_linen as from_linen
from scorecam_jax.adapters.model import LayerInfo as LayerInfo
from scorecam_jax.adapters.model import list_layers as list_layers
from scorecam_jax.adapters.model import register as register
from scorecam_jax.adapters.model import show_attention as show_attention
from scorecam_jax.adapters.model import with_layers as with_layers
from scorecam_jax.adapters.nnx import from_nnx as from_nnx
from scorecam_jax.adapters.precision import with_bfloat16_products as with_bfloat16_products
from scorecam_jax.contract.model import Model as Model

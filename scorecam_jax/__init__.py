"""Score-CAM for JAX: see what a vision model looked at.

Names are imported when they are first used. Importing the package takes no time, and needs no
framework that is not used.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from scorecam_jax.methods import METHODS as METHODS

if TYPE_CHECKING:
    __version__: str
    from scorecam_jax import metrics as metrics
    from scorecam_jax import models as models
    from scorecam_jax import reading as reading
    from scorecam_jax import samples as samples
    from scorecam_jax import study as study
    from scorecam_jax import visualize as visualize
    from scorecam_jax.adapters import LayerInfo as LayerInfo
    from scorecam_jax.adapters import from_equinox as from_equinox
    from scorecam_jax.adapters import from_function as from_function
    from scorecam_jax.adapters import from_haiku as from_haiku
    from scorecam_jax.adapters import from_keras as from_keras
    from scorecam_jax.adapters import from_linen as from_linen
    from scorecam_jax.adapters import from_nnx as from_nnx
    from scorecam_jax.adapters import list_layers as list_layers
    from scorecam_jax.adapters import register as register
    from scorecam_jax.adapters import show_attention as show_attention
    from scorecam_jax.adapters.registration import Registration as Registration
    from scorecam_jax.adapters.registration import registration as registration
    from scorecam_jax.contract import Model as Model
    from scorecam_jax.contract import per_input as per_input
    from scorecam_jax.contract import then as then
    from scorecam_jax.contract.findings import Finding as Finding
    from scorecam_jax.diagnosis import diagnose as diagnose
    from scorecam_jax.engine.independence import check_model as check_model
    from scorecam_jax.engine.score_masks import score_masks as score_masks
    from scorecam_jax.methods import variants as variants
    from scorecam_jax.methods.ablation_cam import ablation_cam as ablation_cam
    from scorecam_jax.methods.attention.generic import generic_attention as generic_attention
    from scorecam_jax.methods.attention.grad_eclip import grad_eclip as grad_eclip
    from scorecam_jax.methods.attention.legrad import legrad as legrad
    from scorecam_jax.methods.attention.raw import raw_attention as raw_attention
    from scorecam_jax.methods.attention.recipro import vit_recipro_cam as vit_recipro_cam
    from scorecam_jax.methods.attention.rollout import attention_rollout as attention_rollout
    from scorecam_jax.methods.base import Explanation as Explanation
    from scorecam_jax.methods.controls import center as center
    from scorecam_jax.methods.controls import uniform as uniform
    from scorecam_jax.methods.dff import Concepts as Concepts
    from scorecam_jax.methods.dff import dff as dff
    from scorecam_jax.methods.dff import find_concepts as find_concepts
    from scorecam_jax.methods.eigen_cam import eigen_cam as eigen_cam
    from scorecam_jax.methods.eigen_grad_cam import eigen_grad_cam as eigen_grad_cam
    from scorecam_jax.methods.fem import fem as fem
    from scorecam_jax.methods.finer_cam import finer_cam as finer_cam
    from scorecam_jax.methods.fusion import fuse_layers as fuse_layers
    from scorecam_jax.methods.grad_cam import grad_cam as grad_cam
    from scorecam_jax.methods.grad_cam_elementwise import (
        grad_cam_elementwise as grad_cam_elementwise,
    )
    from scorecam_jax.methods.grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
    from scorecam_jax.methods.group_cam import group_cam as group_cam
    from scorecam_jax.methods.gscore_cam import gscore_cam as gscore_cam
    from scorecam_jax.methods.hires_cam import hires_cam as hires_cam
    from scorecam_jax.methods.input.full_grad import full_grad as full_grad
    from scorecam_jax.methods.input.gradient import gradient as gradient
    from scorecam_jax.methods.input.gradient_times_input import (
        gradient_times_input as gradient_times_input,
    )
    from scorecam_jax.methods.input.integrated_gradients import (
        integrated_gradients as integrated_gradients,
    )
    from scorecam_jax.methods.input.smooth_grad import smooth_grad as smooth_grad
    from scorecam_jax.methods.is_cam import is_cam as is_cam
    from scorecam_jax.methods.kpca_cam import kpca_cam as kpca_cam
    from scorecam_jax.methods.lafam import lafam as lafam
    from scorecam_jax.methods.layer_cam import layer_cam as layer_cam
    from scorecam_jax.methods.occlusion import occlusion as occlusion
    from scorecam_jax.methods.opti_cam import opti_cam as opti_cam
    from scorecam_jax.methods.poly_cam import poly_cam as poly_cam
    from scorecam_jax.methods.recipro_cam import recipro_cam as recipro_cam
    from scorecam_jax.methods.rise import rise as rise
    from scorecam_jax.methods.score_cam import score_cam as score_cam
    from scorecam_jax.methods.seg_eigen_cam import seg_eigen_cam as seg_eigen_cam
    from scorecam_jax.methods.shapley_cam import shapley_cam as shapley_cam
    from scorecam_jax.methods.smooth_grad_cam_plus_plus import (
        smooth_grad_cam_plus_plus as smooth_grad_cam_plus_plus,
    )
    from scorecam_jax.methods.ss_cam import ss_cam as ss_cam
    from scorecam_jax.methods.variants import OFFICIAL as OFFICIAL
    from scorecam_jax.methods.variants import Variant as Variant
    from scorecam_jax.methods.wrappers import eigen_smoothed as eigen_smoothed
    from scorecam_jax.methods.wrappers import noise_smoothed as noise_smoothed
    from scorecam_jax.methods.xgrad_cam import xgrad_cam as xgrad_cam
    from scorecam_jax.steps import masks as masks
    from scorecam_jax.steps import scores as scores
    from scorecam_jax.steps import weights as weights
    from scorecam_jax.steps.channels import Deviation as Deviation
    from scorecam_jax.steps.channels import Gradient as Gradient
    from scorecam_jax.steps.interpolation import Interpolated as Interpolated

# Public modules, and the members of other modules that are public here.
_MODULES = {
    "masks": "steps.masks",
    "metrics": "metrics",
    "models": "models",
    "reading": "reading",
    "samples": "samples",
    "scores": "steps.scores",
    "study": "study",
    "variants": "methods.variants",
    "visualize": "visualize",
    "weights": "steps.weights",
}
_MEMBERS = {
    "adapters": (
        "LayerInfo", "from_equinox", "from_function", "from_haiku", "from_keras",
        "from_linen", "from_nnx",
        "list_layers", "register", "show_attention",
    ),
    "adapters.registration": ("Registration", "registration"),
    "contract": ("Model", "per_input", "then"),
    "contract.findings": ("Finding",),
    "diagnosis": ("diagnose",),
    "engine.independence": ("check_model",),
    "engine.score_masks": ("score_masks",),
    "methods.base": ("Explanation",),
    "methods.dff": ("Concepts", "find_concepts"),
    "methods.fusion": ("fuse_layers",),
    "methods.variants": ("OFFICIAL", "Variant"),
    "methods.wrappers": ("eigen_smoothed", "noise_smoothed"),
    "steps.channels": ("Deviation", "Gradient"),
    "steps.interpolation": ("Interpolated",),
}  # fmt: skip
_HOMES = {name: home for home, names in _MEMBERS.items() for name in names}
for _entry in METHODS.entries.values():
    _home, _function = _entry.home.split(":")
    _HOMES[_function] = f"methods.{_home}"

__all__ = sorted(["METHODS", *_MODULES, *_HOMES])


def __getattr__(name: str) -> Any:
    value: Any
    if name == "__version__":
        try:
            value = importlib.metadata.version(__name__)
        except importlib.metadata.PackageNotFoundError:  # it is imported from a folder
            value = "0+unknown"
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

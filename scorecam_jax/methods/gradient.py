"""Grad-CAM and its kin, and two maps that look at nothing, to compare Score-CAM with.

Every function is called as `score_cam` is and returns an `Explanation`, whose `scores` are None.

- `model` must take `edit` (models from an adapter do), except for `eigen_cam`, `uniform` and
  `center`, which need no gradients.
- `inputs` (B, *spatial, C) and `targets` are as in `score_cam`; T targets take T backward passes
  that share one forward pass.
- `score` is the function of the outputs that is differentiated, outputs -> (B, classes). The
  default is the outputs themselves, the logits, as in the papers.
- `channel_axis` is that of inputs and activations alike.

The papers stop at a map of the layer's size. Here all are finished as `variants.OFFICIAL` is:
resized linearly to the input's size (half-pixel centres), rectified, and scaled to [0, 1]; a map
that is nowhere positive, as where no gradient arrives, becomes all zero.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from scorecam_jax._internal import checks
from scorecam_jax._internal.trees import join_arrays
from scorecam_jax.methods.base import Explanation, explain
from scorecam_jax.steps.combine import resize_rectify_normalize
from scorecam_jax.steps.masks import divide, normalize, spatial_shape
from scorecam_jax.steps.outputs import class_scores, in_full_precision

Maps: TypeAlias = Float[Array, "batch one *grid channels"]
Gradients: TypeAlias = Float[Array, "batch targets *grid channels"]
Weights: TypeAlias = Float[Array, "batch targets channels"]
Heatmap: TypeAlias = Float[Array, "batch targets *spatial"]


def logits(outputs: Any) -> Any:
    """The outputs themselves."""
    return outputs


def grad_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Weight each map by the mean of its gradient: w_k = mean_ij ∂y/∂A_k,ij.

    Source: Grad-CAM, Selvaraju et al. 2017 (arXiv 1610.02391), Eqs. 1 and 2.
    """
    return _explain(_grad_cam, model, inputs, targets, score, channel_axis)


def grad_cam_plus_plus(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Weight each map by its positive gradients, those of small objects no less.

    w_k = Σ_ij α_ij ReLU(g_ij) with α = g² / (2 g² + Σ_ab A_ab g³), which is 1 / (2 + g Σ_ab A_ab).
    This closed form holds for a score exp(y) where the network is piecewise linear, so that its
    second and third derivatives are exp(y) g² and exp(y) g³. The factor exp(y), common to all
    weights of a map that is scaled to [0, 1] in the end, is left out.

    Source: Grad-CAM++, Chattopadhyay et al. 2018 (arXiv 1710.11063).
    """
    return _explain(_grad_cam_plus_plus, model, inputs, targets, score, channel_axis)


def xgrad_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Weight each map by the mean of its gradient where it is active: w_k = Σ g A / Σ A.

    A map whose activations sum to 0 has weight 0.

    Source: XGrad-CAM, Fu et al. 2020 (arXiv 2008.02312).
    """
    return _explain(_xgrad_cam, model, inputs, targets, score, channel_axis)


def hires_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Multiply maps and gradients place by place: Σ_k g_k ∘ A_k. `weights` are None.

    Source: HiResCAM, Draelos and Carin 2020 (arXiv 2011.08891).
    """
    return _explain(_hires_cam, model, inputs, targets, score, channel_axis)


def layer_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Multiply maps and positive gradients place by place: Σ_k ReLU(g_k) ∘ A_k.

    It serves early layers, where one weight for a whole map is too coarse. `weights` are None.

    Source: LayerCAM, Jiang et al. 2021 (IEEE Transactions on Image Processing 30), Eqs. 5 to 7.
    """
    return _explain(_layer_cam, model, inputs, targets, score, channel_axis)


def eigen_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Project the maps on their first principal direction, for whatever class.

    With A as a (places, K) matrix U Σ V', the map is A v_1. Its sign, which the decomposition
    leaves open, is that of a positive sum. The maps are not centred, as in the paper.

    Source: Eigen-CAM, Muhammad and Yeasin 2020 (arXiv 2008.00299).
    """
    return _explain(_eigen_cam, model, inputs, targets, score, channel_axis, differentiate=False)


def uniform(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Point everywhere alike: a heatmap of ones, the least that a method has to better."""
    return _explain(_uniform, model, inputs, targets, score, channel_axis, differentiate=False)


def center(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    channel_axis: int = -1,
) -> Explanation:
    """Point at the middle: a Gaussian of standard deviation half a side, scaled to [0, 1].

    Photographers put their objects there, so localization is judged against this map too.

    Source: the centre-Gaussian baseline of Choe et al. 2020 (arXiv 2001.07437).
    """
    return _explain(_center, model, inputs, targets, score, channel_axis, differentiate=False)


def _grad_cam(
    activations: Maps, gradients: Gradients, shape: Sequence[int]
) -> tuple[Weights, Heatmap]:
    return _weigh(activations, gradients.mean(_space(gradients)), shape)


def _grad_cam_plus_plus(
    activations: Maps, gradients: Gradients, shape: Sequence[int]
) -> tuple[Weights, Heatmap]:
    space = _space(gradients)
    alphas = divide(jnp.ones_like(gradients), 2 + gradients * activations.sum(space, keepdims=True))
    return _weigh(activations, (alphas * jax.nn.relu(gradients)).sum(space), shape)


def _xgrad_cam(
    activations: Maps, gradients: Gradients, shape: Sequence[int]
) -> tuple[Weights, Heatmap]:
    space = _space(gradients)
    weights = divide((gradients * activations).sum(space), activations.sum(space))
    return _weigh(activations, weights, shape)


def _hires_cam(
    activations: Maps, gradients: Gradients, shape: Sequence[int]
) -> tuple[None, Heatmap]:
    return None, resize_rectify_normalize((gradients * activations).sum(-1), shape)


def _layer_cam(
    activations: Maps, gradients: Gradients, shape: Sequence[int]
) -> tuple[None, Heatmap]:
    sums = (jax.nn.relu(gradients) * activations).sum(-1)
    return None, resize_rectify_normalize(sums, shape)


def _eigen_cam(activations: Maps, gradients: None, shape: Sequence[int]) -> tuple[Weights, Heatmap]:
    matrices = jax.lax.collapse(activations, 1, -1)
    direction = jnp.linalg.svd(matrices, full_matrices=False)[2][:, :1]
    total = jnp.einsum("bpk,bok->bo", matrices, direction)
    return _weigh(activations, jnp.where(total < 0, -1, 1)[..., None] * direction, shape)


def _uniform(activations: Maps, gradients: None, shape: Sequence[int]) -> tuple[None, Heatmap]:
    return None, jnp.ones((len(activations), 1, *shape), activations.dtype)


def _center(activations: Maps, gradients: None, shape: Sequence[int]) -> tuple[None, Heatmap]:
    axes = [(2 * jnp.arange(size, dtype=activations.dtype) + 1) / size - 1 for size in shape]
    squares = [axis**2 for axis in jnp.meshgrid(*axes, indexing="ij")]
    heatmap = normalize(jnp.exp(-sum(squares) / 2), len(shape))
    return None, jnp.broadcast_to(heatmap, (len(activations), 1, *shape))


def _weigh(activations: Maps, weights: Weights, shape: Sequence[int]) -> tuple[Weights, Heatmap]:
    sums = jnp.einsum("b...k,btk->bt...", activations[:, 0], weights, precision="highest")
    return weights, resize_rectify_normalize(sums, shape)


def _space(values: Array) -> tuple[int, ...]:
    return tuple(range(2, values.ndim - 1))


def _explain(
    formula: Callable[..., Any],
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any,
    score: Callable[..., Any],
    channel_axis: int,
    *,
    differentiate: bool = True,
) -> Explanation:
    if differentiate:
        checks.check_edit(model)
    return explain(
        _compiled, (model, score), inputs, targets,
        formula=formula, channel_axis=channel_axis, differentiate=differentiate,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("static", "formula", "channel_axis", "differentiate"))
def _compiled(arrays, inputs, targets, *, static, formula, channel_axis, differentiate):  # type: ignore[no-untyped-def]
    model, score = join_arrays(arrays, static)

    def run(tap):  # type: ignore[no-untyped-def]
        edit = {"edit": lambda a: a + tap.astype(a.dtype)} if differentiate else {}
        outputs, shown = checks.check_shown(model(inputs, **edit), inputs)
        return class_scores(score, outputs, len(inputs)), (outputs, shown)

    shown = jax.eval_shape(run, jnp.zeros(()))[1][1]
    tap = in_full_precision(jnp.zeros(shown.shape, shown.dtype))
    confidence, pull, (outputs, shown) = jax.vjp(run, tap, has_aux=True)
    if targets is None:
        targets = confidence.argmax(1)[:, None]

    gradients = None
    if differentiate:
        classes = confidence.shape[1]
        directions = jax.nn.one_hot(jnp.clip(targets, 0, classes - 1), classes, axis=-1)
        (gradients,) = jax.vmap(pull, 1, 1)(directions.astype(confidence.dtype))
        gradients = jnp.moveaxis(gradients, channel_axis % shown.ndim + 1, -1)
    activations = jnp.moveaxis(in_full_precision(shown), channel_axis, -1)[:, None]

    weights, heatmap = jax.tree.map(
        lambda values: jnp.broadcast_to(values, (*targets.shape, *values.shape[2:])),
        formula(activations, gradients, spatial_shape(inputs, channel_axis)),
    )
    return Explanation(heatmap, weights, None, shown, outputs, targets), confidence

"""The published formulas of Score-CAM as data: each variant is a tuple of pure functions.

Compose your own from the steps in `masks`, `weights` and `combine`. For example, the increase of
confidence as the weight (Eqs. 6 to 10), on log-probabilities, with rectified maps as masks:

>>> from scorecam_jax import score_cam
>>> relative = OFFICIAL._replace(
...     prepare=jax.nn.relu, score=jax.nn.log_softmax, weigh=weights.increase_of_confidence
... )
>>> def model(x):  # a toy network on signals
...     activations = jnp.concatenate([x, -x], -1)
...     return jax.nn.relu(activations).mean(1), activations
>>> signal = jnp.array([[[0.0], [1.0], [2.0], [-1.0]]])
>>> score_cam(model, signal, 0, variant=relative).weights.round(2)
Array([[ 0.26, -0.13]], dtype=float32)
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scorecam_jax._internal.checks import is_traced, is_true
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.several import shapes_of
from scorecam_jax.methods import VARIANTS
from scorecam_jax.steps import combine, masks, weights
from scorecam_jax.steps.combine import peak_of
from scorecam_jax.steps.masks import Render
from scorecam_jax.steps.scores import kind_of

Masks = Float[Array, "..."]
Maps = Float[Array, "batch *grid channels"]
Sums = Float[Array, "batch targets *grid"]
Heatmap = Float[Array, "batch targets *spatial"]


class Variant(NamedTuple):
    """The steps of a Score-CAM. Hashable if its functions are, so that `jit` can key on it.

    Attributes:
        prepare: activations (B, *grid, K) -> maps (B, *grid, K). A map of zeros is an empty mask,
            so this step decides on the mask of a constant channel.
        render: (maps (n, *grid), shape) -> masks (n, *shape). Zero maps must stay zero.
        score: the default score, outputs -> (N, classes).
        weigh: (scores, live, empty) -> weights; see `scorecam_jax.weights`.
        combine: (activations, maps, weights, render, shape) -> sums (B, T, *grid or *shape).
        finish: (sums, shape) -> heatmap (B, T, *shape) in [0, 1]; in [-1, 1] if it is signed.
        peak: sums -> (B, T), the value that 1 in the heatmap stands for.
    """

    prepare: Callable[[Maps], Maps]
    render: Render
    score: Callable[[Any], Any]
    weigh: Callable[..., Float[Array, "b t k"]]
    combine: Callable[..., Sums]
    finish: Callable[[Sums, Sequence[int]], Heatmap]
    peak: Callable[[Sums], Float[Array, "batch targets"]] = peak_of


def _as_they_are(values: Any) -> Any:
    return values


def _from_minimum(activations: Maps) -> Maps:
    # The shift does not change the min-max normalisation, and a constant map becomes exactly zero.
    space = tuple(range(1, activations.ndim - 1))
    low, _ = masks.value_range(activations, space)
    return jnp.where(masks.is_constant(activations, space), 0, activations - low)


def _normalized(activations: Maps) -> Maps:
    return masks.normalize(activations, tuple(range(1, activations.ndim - 1)), eps=1e-8)


def _up_then_normalize(maps: Masks, shape: Sequence[int]) -> Masks:
    return masks.normalize(masks.resize(maps, shape), len(shape))


def _aligned_then_normalize(maps: Masks, shape: Sequence[int], *, eps: float) -> Masks:
    return masks.normalize(masks.resize_aligned(maps, shape), len(shape), eps)


def _aligned_as_by_pytorch_then_normalize(maps: Masks, shape: Sequence[int]) -> Masks:
    low, high = masks.value_range(maps, len(shape))
    resized = masks.resize_aligned(maps - low, shape)
    if len(shape) == 2:
        constant = _resize_constant_as_by_pytorch(low, maps.shape[-2:], shape)
        resized = jnp.where(low == high, constant, resized)
    return masks.normalize(resized, len(shape), eps=1e-8, exactly=True)


def _resize_constant_as_by_pytorch(
    value: Float[Array, "n 1 1"], grid: Sequence[int], shape: Sequence[int]
) -> Float[Array, "n height width"]:
    """Resize constant maps with the rounding errors of PyTorch's `UpsamplingBilinear2d`.

    These are the errors on CPUs with fused multiply-add, where each product is added with one
    rounding, to float32. This needs float64, which TPUs lack: there the maps stay constant.
    """

    def shares(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
        step = np.float32(old - 1) / np.float32(max(new - 1, 1))
        position = step * np.arange(new, dtype=np.float32)
        after = position - np.floor(position)
        return 1 - after, after

    def mix(value: Array, shares: Sequence[np.ndarray]) -> Array:
        total = jnp.zeros_like(value)
        for share in shares:
            product = value * share[None].astype(np.float64)  # exact in float64
            total = jax.lax.reduce_precision(total + product, exponent_bits=8, mantissa_bits=23)
        return total

    (top, bottom), (left, right) = map(shares, grid, shape)

    @jax.enable_x64(True)
    def rounded(value: Array) -> Array:
        wide = value.astype(np.float64)
        if sum(shape) > 128:
            resized = mix(mix(wide, [right[None], left[None]]), [bottom[:, None], top[:, None]])
        else:  # for small images, PyTorch's other path adds the four corners at once
            corners = (bottom, left), (bottom, right), (top, right), (top, left)
            resized = mix(wide, [np.outer(*corner) for corner in corners])
        return resized.astype(value.dtype)

    def constant(value: Array) -> Array:
        return jnp.broadcast_to(value, (len(value), *shape))

    value = jax.lax.stop_gradient(value)
    return jax.lax.platform_dependent(value, tpu=constant, default=rounded)


def _up_then_divide_by_range(maps: Masks, shape: Sequence[int]) -> Masks:
    # Constant maps are found before resizing, where rounding does not hide them. Other maps can
    # become constant when they are resized to fewer pixels.
    low, high = masks.value_range(maps, len(shape))
    resized = masks.resize(maps, shape)
    bottom, top = masks.value_range(resized, len(shape))
    constant = (low == high) | masks.is_constant(resized, len(shape))
    return masks.divide(resized, jnp.where(constant, 1, top - bottom))


def _up_then_tanh(maps: Masks, shape: Sequence[int]) -> Masks:
    return jnp.tanh(masks.resize(maps, shape))


def _rectify_divide_by_maximum_resize(sums: Sums, shape: Sequence[int]) -> Heatmap:
    sums = jax.nn.relu(sums)
    rank = len(shape)
    scaled = masks.divide(sums, masks.value_range(sums, rank)[1])
    return masks.resize(scaled, shape).clip(0, 1)


def _rectify_normalize_resize(sums: Sums, shape: Sequence[int]) -> Heatmap:
    scaled = masks.normalize(jax.nn.relu(sums), len(shape), eps=1e-8)
    return masks.resize(scaled, shape).clip(0, 1)


def _rectify_scale_resize_scale(sums: Sums, shape: Sequence[int]) -> Heatmap:
    scaled = masks.normalize(jax.nn.relu(sums), len(shape), eps=1e-7)
    return masks.normalize(masks.resize(scaled, shape), len(shape), eps=1e-7)


def _rectify_resize_aligned_normalize(sums: Sums, shape: Sequence[int]) -> Heatmap:
    resized = masks.resize_aligned(jax.nn.relu(sums), shape)
    return masks.normalize(resized, len(shape), eps=1e-7)


OFFICIAL = Variant(
    prepare=_from_minimum,
    render=_up_then_normalize,
    score=jax.nn.softmax,
    weigh=weights.score_of_live,
    combine=combine.sum_activations,
    finish=combine.resize_rectify_normalize,
)
"""The authors' code, github.com/haofanwang/Score-CAM.

H_k = s(Up(A_k)); w_k = softmax(f(X ∘ H_k))_c, 0 for a constant map; s(ReLU(Σ w_k Up(A_k))).
Where the sum is constant, the original returns None; this returns zeros. The original looks for
constant maps after resizing, where rounding may hide them; this looks before.
"""

INCREASE = OFFICIAL._replace(weigh=weights.increase_of_confidence)
"""Eqs. 6 to 10 of the paper: OFFICIAL, weighted by the increase over the baseline's score.

w_k = f(X ∘ H_k)_c − f(X_b)_c. A constant added to all outputs changes nothing, so f need not be a
probability.
"""

SIGNED = INCREASE._replace(finish=combine.resize_scale_signed, peak=combine.signed_peak_of)
"""INCREASE without the rectifier: evidence for the class is positive, evidence against it negative.

Up(Σ w_k A_k) / max |Up(Σ w_k A_k)|, in [-1, 1].
"""

PAPER = OFFICIAL._replace(score=_as_they_are, weigh=weights.softmax_over_channels)
"""Algorithm 1 of the paper (arXiv 1910.01279v2), whose scores are logits.

w = softmax over k of (f(X ∘ H_k)_c - f(X_b)_c), empty masks included; finished as in OFFICIAL.
"""

YISKW713 = Variant(
    prepare=jax.nn.relu,
    render=_up_then_divide_by_range,
    score=jax.nn.softmax,
    weigh=weights.score_itself,
    combine=combine.sum_masks,
    finish=combine.resize_rectify_normalize,
)
"""github.com/yiskw713/ScoreCAM.

U_k = Up(ReLU(A_k)); H_k = U_k / (max U_k − min U_k), or U_k if A_k is constant;
w_k = softmax(f(X ∘ H_k))_c; s(ReLU(Σ w_k H_k)). Masks of maps that are nowhere 0 exceed 1.
Where the sum is zero everywhere, the original returns NaN; this returns zeros.
"""

TABAYASHI = Variant(
    prepare=_as_they_are,
    render=_up_then_divide_by_range,
    score=jax.nn.softmax,
    weigh=weights.score_itself,
    combine=combine.sum_activations,
    finish=_rectify_divide_by_maximum_resize,
)
"""github.com/tabayashi0117/Score-CAM; with `channels=Deviation(n)`, its Faster-Score-CAM with
`max_N=n`.

U_k = Up(A_k); H_k = U_k / (max U_k − min U_k), or U_k if A_k is constant, so that masks of signed
maps are signed; w_k = softmax(f(X ∘ H_k))_c; R = ReLU(Σ w_k A_k); R / max R, then resized to the
input. Where R is zero everywhere, the original returns NaN; this returns zeros.
"""

PYTORCH_GRAD_CAM = Variant(
    prepare=_as_they_are,
    render=_aligned_as_by_pytorch_then_normalize,
    score=_as_they_are,
    weigh=weights.softmax_over_channels,
    combine=combine.sum_activations,
    finish=_rectify_scale_resize_scale,
)
"""`ScoreCAM` of the package grad-cam 1.5 (github.com/jacobgil/pytorch-grad-cam), on logits.

H_k = s(Up(A_k)) with aligned corners and eps 1e-8; w = softmax over k of f(X ∘ H_k)_c, constant
maps included; R = ReLU(Σ w_k A_k), scaled to [0, 1] with eps 1e-7, resized, and scaled again.

For a constant map other than zero, the original's H_k is the rounding error of the resizing, scaled
up to [0, 1]: a pattern that depends on the processor. This variant reproduces it for images, as
PyTorch 2 computes it on a CPU with fused multiply-add for channels in multiples of 16. This needs
float64; on a TPU such maps get an empty mask. Unless you need the original's maps, prefer
`PYTORCH_GRAD_CAM._replace(prepare=OFFICIAL.prepare)`, which gives constant maps an empty mask
everywhere. The two agree wherever no channel is constant at a value other than 0; on the original's
maps kept with the tests, they differ by up to .009 for a layer before its ReLU.
"""

TORCHCAM = Variant(
    prepare=_normalized,
    render=masks.resize,
    score=_as_they_are,
    weigh=weights.softmax_over_channels,
    combine=combine.sum_activations,
    finish=_rectify_normalize_resize,
)
"""`ScoreCAM` of the package torchcam 0.4 and 0.5 (github.com/frgfm/torch-cam), on logits.

H_k = Up(s(A_k)), normalised *before* resizing, eps 1e-8; w = softmax over k of f(X ∘ H_k)_c,
constant maps included; s(ReLU(Σ w_k A_k)) with eps 1e-8, then resized to the input.
"""

TF_KERAS_VIS = Variant(
    prepare=_from_minimum,
    render=functools.partial(_aligned_then_normalize, eps=1e-7),
    score=jax.nn.softmax,
    weigh=weights.score_itself,
    combine=combine.sum_activations,
    finish=_rectify_resize_aligned_normalize,
)
"""`Scorecam` of the package tf-keras-vis 0.8 (github.com/keisen/tf-keras-vis).

H_k = s(Up(A_k)) with aligned corners and eps 1e-7; w_k = softmax(f(X ∘ H_k))_c, constant maps
included; s(Up(ReLU(Σ w_k A_k))) with aligned corners and eps 1e-7. `channels=Deviation(n)` is its
`max_N=n`.
"""

PLUS_PLUS = Variant(
    prepare=_as_they_are,
    render=_up_then_tanh,
    score=jax.nn.softmax,
    weigh=weights.score_itself,
    combine=combine.sum_masks,
    finish=combine.resize_rectify_normalize,
)
"""Score-CAM++ (Mitra et al. 2024, arXiv 2404.19341): `ScoreCAM_both(activation_name="tanh")` in the
authors' code, github.com/AquillaNatus/ScoreCAMpp at 22c2d3a.

H_k = tanh(Up(A_k)); w_k = softmax(f(X ∘ H_k))_c; s(ReLU(Σ w_k H_k)). Masks are not scaled, so the
layer's unit matters, and masks of signed maps are signed. The paper weights by the change in
confidence; its code, by the confidence. Where the sum is constant, the original returns None; this
returns zeros.
"""

BY_NAME: dict[str, Variant] = {name: globals()[name.upper().replace("-", "_")] for name in VARIANTS}
"""The variants by their names on the command line."""


def default_for(
    score: Callable[..., Any] | None, outputs: Callable[[], Any] | None = None
) -> Variant:
    """The default variant of a method for a score.

    OFFICIAL for probabilities, which are the weights themselves. INCREASE for every other score,
    because its zero is arbitrary and a constant added to all outputs must not change the map.
    `scorecam_jax.scores.is_probability` tells them apart. None means the default score, the
    softmax. Your own function of logits needs `variant=INCREASE` or an attribute
    `probability = False`, unless it returns the result of a score of this package.

    Args:
        score: outputs -> (N, classes), or None.
        outputs: () -> the shapes of the model's outputs, for functions that cannot be classified
            without them.

    >>> from scorecam_jax import scores
    >>> default_for(scores.sigmoid) is OFFICIAL, default_for(scores.values) is INCREASE
    (True, True)
    """
    return INCREASE if score is not None and kind_of(score, outputs) is False else OFFICIAL


def default_of(model: AnyModel, inputs: Any, score: Any) -> Variant:
    """As `default_for`, with the model's outputs if they are needed."""
    known = score is None or callable(score)  # anything else is refused where it is checked
    return default_for(score if known else None, lambda: shapes_of(model, inputs)[0])


def check_kind(variant: Variant, score: Callable[..., Any] | None, confidence: Any) -> None:
    """Warn if a default variant used scores as probabilities that are not in [0, 1]."""
    if variant is not OFFICIAL or score is None or is_traced(confidence):
        return
    if kind_of(score) is not None:
        return
    if not is_true(lambda: (confidence >= 0).all() & (confidence <= 1).all()):
        warnings.warn(
            "the score function counts as a probability, but its values are not in [0, 1]: pass "
            "variant=variants.INCREASE, or set its attribute probability to False (to True to "
            "keep this formula)", stacklevel=3,
        )  # fmt: skip

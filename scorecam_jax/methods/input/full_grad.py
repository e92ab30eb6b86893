"""FullGrad (Srinivas and Fleuret 2019, arXiv 1905.00780)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax._internal.trees import join_arrays, split_arrays
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.base import Context, Explanation, Found, pull_targets, run
from scorecam_jax.methods.input.base import channels_last, finish_pixels
from scorecam_jax.program.biases import run_with_biases
from scorecam_jax.steps.masks import normalize, resize_aligned
from scorecam_jax.steps.outputs import class_scores, in_full_precision, of_targets
from scorecam_jax.steps.scores import logits


def full_grad(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Output],
) -> Explanation:
    """Add the contributions of the input and of each layer's bias to the score.

    The score of a piecewise linear network is Σ x ∂y/∂x + Σ_l Σ b_l ∂y/∂z_l, where the bias b_l is
    added to z_l. The map is Σ_c ψ(x ∂y/∂x)_c + Σ_l Up(Σ_k ψ(b_l ∂y/∂z_l)_k): ψ takes absolute
    values and scales them to [0, 1] over a whole layer of an image, all channels together; Up
    resizes with aligned corners. The bias of a batch norm is β − γ μ / σ. Layers without a grid,
    such as the last, are left out of the map. `shortfall` is the sum of all contributions minus the
    score: 0 up to rounding if all nonlinearities are ReLUs. Constants of other nonlinearities, such
    as the ceiling of a ReLU6, are not counted. `weights` and `scores` are None. The map is scaled
    to [0, 1].

    Made for convolutional networks. A bias is any array in the traced program that does not depend
    on the image and is added to one that does. Biases inside loops are not found.

    Args:
        model: as in `gradient`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Source: Srinivas and Fleuret 2019 (arXiv 1905.00780), and the authors' code,
    github.com/idiap/fullgrad-saliency at 7c106b3, without its epsilon of 1e-6. `FullGrad` of
    pytorch-grad-cam scales each channel separately, which gives another map.
    """
    return run(
        full_grad, _full_grad, model, inputs, targets, question,
        score=logits, reads_layer=False, in_frame=False,
    )  # fmt: skip


def _full_grad(context: Context) -> Found:
    arrays, static = split_arrays((context.model, context.score))

    def program(arrays: Any, images: Array) -> Array:
        model, score = join_arrays(arrays, static)
        return class_scores(score, model(images)[0], len(images))

    traced = jax.make_jaxpr(program)(arrays, context.inputs)
    leaves = jax.tree.leaves(arrays)

    def scores(images: Array, taps: Any = None) -> tuple[Array, list[Array]]:
        args = [*leaves, images]
        found, biases = run_with_biases(traced.jaxpr, traced.consts, args, len(leaves), taps)
        return found[0], biases

    shapes = jax.eval_shape(scores, context.inputs)[1]
    taps = [jnp.zeros(each.shape, each.dtype) for each in shapes]
    confidence, pull, biases = jax.vjp(lambda at: scores(*at), (context.inputs, taps), has_aux=True)
    slopes, by_bias = pull_targets(pull, confidence, context.targets)
    images = context.inputs
    pairs = [(slopes, images), *zip(by_bias, biases, strict=True)]
    shares = [
        in_full_precision(slope) * in_full_precision(value)[:, None] for slope, value in pairs
    ]
    total = sum(share.sum(tuple(range(2, share.ndim))) for share in shares)
    shortfall = total - of_targets(context.confidence, context.targets)
    with_grid = [share for share in shares if share.ndim == images.ndim + 1]
    sums = sum(_shown(channels_last(context, share), context.shape) for share in with_grid)
    return finish_pixels(jnp.asarray(sums))._replace(shortfall=shortfall)


def _shown(
    shares: Float[Array, "batch targets *grid channels"], shape: tuple[int, ...]
) -> Float[Array, "batch targets *spatial"]:
    """ψ of a layer, summed over its channels and resized."""
    scaled = normalize(jnp.abs(shares), tuple(range(2, shares.ndim)))
    return resize_aligned(scaled.sum(-1), shape)

"""Group-CAM (Zhang, Rao and Yang 2021, arXiv 2103.13859)."""

import dataclasses
from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.engine.options import Masking
from scorecam_jax.engine.sharding import explicit_mesh, replicate
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.variants import OFFICIAL
from scorecam_jax.steps.combine import peak_of, sum_masks, sum_weighted
from scorecam_jax.steps.filters import blur
from scorecam_jax.steps.scores import logits

_COMMITS = ("0b61fdd", "ffd807b")


def group_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    groups: int = 32,
    commit: str = "0b61fdd",
    **masking: Unpack[Masking],
) -> Explanation:
    """Mask by the sums of groups of gradient-weighted maps: ReLU(Σ_g (p(M_g) − p(∅)) M_g).

    The channels are split in order into groups of equal size; the last may be smaller. M_g is
    ReLU(Σ_k w_k A_k) over a group, with Grad-CAM's w_k. Its values up to the 70th percentile become
    0; it is then resized to the input's size and scaled to [0, 1]. p is the target's probability.
    Where a mask is 0, it shows the blurred input.

    The formula changed in later commits of the authors' code. With `commit="ffd807b"`, the latest,
    no values become 0, and the groups' unscaled maps are summed where they raise the probability:
    Σ_g ReLU(p(s(M_g)) − p(∅)) M_g.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. Each target has its own masks, so T targets take T times as many
            passes.
        groups: the number of groups; fewer if groups of equal size hold all channels before that.
        commit: the commit of the authors' code with the formula, "0b61fdd" or "ffd807b".
        **masking: see `Masking`. The default score is the outputs themselves, the logits;
            probabilities are its softmax. The default baseline is the input blurred by a Gaussian
            of 51 pixels with a deviation of 50.

    Raises:
        ValueError: `groups` is not positive, or `commit` is neither of the two.

    Source: Zhang, Rao and Yang 2021 (arXiv 2103.13859), and the authors' code,
    github.com/wofmanaf/Group-CAM, `cam/groupcam.py`. The authors' blur mirrors the input at
    its edges; here the last value is repeated. Where the authors' code returns None, because the
    sum is constant, this returns zeros.
    """
    if groups < 1:
        raise ValueError(f"groups={groups}, wanted at least 1")
    if commit not in _COMMITS:
        raise ValueError(f"commit is {commit!r}, wanted one of {', '.join(map(repr, _COMMITS))}")
    if masking.get("baseline") is None:
        axis = channel_axis_of(model, masking.get("channel_axis"))
        images = jnp.asarray(split_inputs(model, inputs)[1])
        images = replicate(images, explicit_mesh(images))
        masking["baseline"] = blur(images, size=51, sigma=50.0, channel_axis=axis)
    return run(
        group_cam, _group_cam, model, inputs, targets, masking,
        score=logits, gradients=True, groups=groups, latest=commit == _COMMITS[1],
    )  # fmt: skip


def _group_cam(context: Context, *, groups: int, latest: bool) -> Found:
    whole = context.activations, context.gradients
    activations, gradients = replicate(whole, explicit_mesh(context.inputs))
    weights = gradients.mean(context.space)
    batch, targets, channels = weights.shape
    size = -(-channels // groups)
    groups = -(-channels // size)

    def split(values: Array) -> Array:  # the last axis into groups
        padding = [(0, 0)] * (values.ndim - 1) + [(0, groups * size - channels)]
        return jnp.pad(values, padding).reshape(*values.shape[:-1], groups, size)

    masks = jnp.einsum(
        "b...gk,btgk->b...tg", split(activations), split(weights), precision="highest"
    )
    masks = jax.nn.relu(masks)
    if not latest:
        cells = tuple(range(1, masks.ndim - 2))
        masks = jnp.where(masks > jnp.percentile(masks, 70, cells, keepdims=True), masks, 0)

    asked = dataclasses.replace(context, score=Partial(_probability, context.score))
    own, empty = asked.score_own_masks(masks, OFFICIAL.render)
    gains = jax.nn.relu(own - empty) if latest else own - empty

    # Each target sums its own masks.
    flat = jax.lax.collapse(masks, masks.ndim - 2)
    placed = jnp.eye(targets, dtype=gains.dtype)[None, :, :, None] * gains[:, :, None]
    placed = placed.reshape(batch, targets, -1)
    if latest:
        return context.finish(sum_weighted(flat, placed), own)
    sums = sum_masks(flat, flat, placed, OFFICIAL.render, context.shape)
    return Found(OFFICIAL.finish(sums, context.shape), None, own, peak_of(sums))


def _probability(score: Callable[..., Any], outputs: Any) -> Float[Array, "n classes"]:
    return jax.nn.softmax(score(outputs), axis=-1)

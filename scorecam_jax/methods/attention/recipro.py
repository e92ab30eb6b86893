"""ViT-ReciproCAM (Byun and Lee 2023, arXiv 2310.02588)."""

import dataclasses
import math
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.engine.options import Running
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import peak_of
from scorecam_jax.steps.masks import normalize, resize
from scorecam_jax.steps.scores import logits


def vit_recipro_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    residual: bool = False,
    gaussian: bool = True,
    **passes: Unpack[Running],
) -> Explanation:
    """Score each patch alone, with the class token, in the last block of a transformer.

    The map at a patch is the score when all other patches are 0 in the input of the last attention,
    which is the output of the preceding norm. Class and register tokens stay. Only the last block
    runs again. `scores` are (B, [T,] patches), row by row; `weights` are None. The map is resized
    to the input's size and scaled to [0, 1].

    Two implementations differ. openvino-xai's for PyTorch masks the norm's output alone; the
    residual path keeps all patches (`residual=False`). Its implementation for OpenVINO masks both
    (`residual=True`). Because a norm ignores the scale of a token, masking its input and output is
    the same as masking its output and the residual.

    Args:
        model: a model from an adapter such as `from_linen`, with any layer.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        residual: whether to mask the residual path too.
        gaussian: whether to show the patch with its eight neighbours, weighted by a Gaussian, 1/16
            of [1 2 1; 2 4 2; 1 2 1], as openvino-xai does by default. Otherwise, the patch alone.
        **passes: see `Running`. The default score is the outputs themselves, the logits.

    Raises:
        TypeError: the model was not made by an adapter.
        ValueError: the network does not have two blocks with attention, its tokens form no grid, or
            no layer passes on all that the last attention reads.

    Source: Byun and Lee 2023 (arXiv 2310.02588); both forms as in openvino-xai 1.1.0.
    """
    model, inputs = split_inputs(model, inputs)
    find = getattr(model, "before_attention", None)
    if find is None:
        raise TypeError(
            "vit_recipro_cam needs a model from an adapter such as from_linen, which finds the "
            f"last attention; this model is a {type(model).__name__}"
        )
    shown, view = find(jnp.asarray(inputs))
    before = Partial(_BeforeAttention(view, residual), shown)
    return run(
        vit_recipro_cam, _recipro, before, inputs, targets, passes,
        score=logits, edits=True, gaussian=gaussian,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _BeforeAttention:
    """A model whose layer is the patches that the last attention reads.

    With `residual`, an edit applies to the residual path too.
    """

    view: Any
    residual: bool

    def __call__(self, model: Any, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        def stream(tokens: Array) -> Array:
            return self.view.from_grid(edit(self.view.to_grid(tokens)), tokens)

        edits = {} if edit is None else {"edit": (stream if self.residual else None, edit)}
        outputs, (_, read) = model(inputs, **edits)
        return outputs, read


def _recipro(context: Context, gaussian: bool) -> Found:
    grid = context.activations.shape[1:-1]
    scores = context.score_edits(Partial(_Keep(gaussian)), math.prod(grid))
    maps = scores.reshape(*context.targets.shape, *grid)
    heatmap = normalize(resize(maps, context.shape), len(grid))
    return Found(heatmap, None, scores, peak_of(maps))


@dataclasses.dataclass(frozen=True)
class _Keep:
    """Keeps patch `number`, and shares of its neighbours if `gaussian`; sets all others to 0."""

    gaussian: bool

    def __call__(
        self, maps: Float[Array, "batch *grid channels"], number: Array
    ) -> Float[Array, "batch *grid channels"]:
        grid = maps.shape[1:-1]
        shares = jax.nn.one_hot(number, math.prod(grid), dtype=maps.dtype).reshape(grid)
        for axis, size in enumerate(grid if self.gaussian else ()):
            distances = np.abs(np.arange(size)[:, None] - np.arange(size))
            kernel = jnp.asarray(np.maximum(0.5 - distances / 4, 0), maps.dtype)
            shares = jnp.moveaxis(jnp.tensordot(shares, kernel, (axis, 0)), -1, axis)
        return maps * shares[None, ..., None]

"""What attention methods share: a formula returns the relevance of each token.

A formula is a function `(seen, **options) -> (B, targets, tokens)`, defined right below the
method's public function.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax._internal import checks
from scorecam_jax._internal.filter_jit import filter_jit
from scorecam_jax._internal.notes import noting
from scorecam_jax._internal.trees import join_arrays, split_arrays
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.independence import check_independence
from scorecam_jax.methods.base import (
    Axis,
    Explanation,
    check_question,
    finite_or_empty,
    target_gradients,
)
from scorecam_jax.program.analysis import MOST_EXTRA_TOKENS
from scorecam_jax.program.attention import Compared, read_compared
from scorecam_jax.steps.combine import peak_of, resize_rectify_normalize
from scorecam_jax.steps.frames import Frame
from scorecam_jax.steps.masks import spatial_shape
from scorecam_jax.steps.outputs import class_scores, in_full_precision, of_targets
from scorecam_jax.steps.scores import check_score, logits

Matrices = Sequence[Float[Array, "batch _ _ keys"]]


@dataclasses.dataclass(frozen=True)
class Seen:
    """The argument of a formula.

    Attributes:
        matrices: the attention matrices of the blocks, in order, in float32 or wider.
        read: (queries,), the weights with which the outputs read the last block's queries: the
            class token alone, or the mean.
        targets: (B, T).
        forward: taps -> (B, classes), the scores with a tap added to each matrix; None adds
            nothing.
        streams: taps -> the tokens that each block returns, and a function that scores other tokens
            instead of the last block's; None if they are not known.
        is_patch: (keys,), which tokens lie on the grid.
        compared: () -> the queries and keys of the last block; None if they are not found.
    """

    matrices: Matrices
    read: Float[Array, " queries"]
    targets: Int[Array, "batch targets"]
    forward: Callable[[Sequence[Any]], Float[Array, "batch classes"]]
    streams: Callable[[Sequence[Any]], tuple[Sequence[Array], Callable[[Array], Array]]] | None
    is_patch: Bool[Array, " keys"]
    compared: Callable[[], Compared | None]

    def slopes(
        self, which: Sequence[int], scores: Callable[[Sequence[Any]], Any] | None = None
    ) -> list[Float[Array, "batch targets _ _ keys"]]:
        """The gradients of the targets' scores with respect to some of the matrices.

        Args:
            which: the numbers of the matrices.
            scores: taps -> (B, classes), other scores to differentiate; None for `forward`.
        """
        scores = scores or self.forward

        def tapped(chosen: Sequence[Array]) -> Array:
            taps: list[Any] = [None] * len(self.matrices)
            for number, tap in zip(which, chosen, strict=True):
                taps[number] = tap
            return scores(taps)

        zeros = [jnp.zeros_like(self.matrices[number]) for number in which]
        slopes: list[Array] = target_gradients(tapped, zeros, self.targets)
        return slopes


class _Asked(NamedTuple):
    formula: Callable[..., Float[Array, "batch targets keys"]]
    model: AnyModel
    inputs: Float[Array, "batch ..."]
    targets: Int[Array, "batch targets"] | None
    score: Callable[..., Any]
    channel_axis: int
    grid: tuple[int, ...] | None
    streams: bool


def run_attention(
    method: Callable[..., Explanation],
    formula: Callable[..., Float[Array, "batch targets keys"]],
    model: AnyModel,
    inputs: Any,
    targets: Any,
    question: Mapping[str, Any],
    *,
    grid: tuple[int, ...] | None,
    square: bool = True,
    streams: bool = False,
    **options: Any,
) -> Explanation:
    """Check the arguments, and run a formula compiled with the network.

    Args:
        method: the public function.
        formula: `(seen, **options) -> (B, targets, keys)`.
        model: the user's argument.
        inputs: the user's argument.
        targets: the user's argument.
        question: the options of `Output` that the user passed.
        grid: the sizes of the tokens' grid, or None.
        square: whether the formula multiplies the matrices of all blocks.
        streams: whether the formula needs the tokens between blocks.
        **options: the formula's own.

    Raises:
        TypeError: an option is unknown, or the inputs are not floating point.
        ValueError: inputs, targets and the network's attention do not fit together.
    """
    model, inputs, targets, squeeze, axis = check_question(method, model, inputs, targets, question)
    score = question.get("score") or logits
    with noting(inputs, axis):
        if hasattr(model, "show_attention"):
            model = model.show_attention(inputs, streams)
        elif streams:
            raise TypeError(
                f"{method.__name__} needs a network made by an adapter such as from_linen, which "
                f"knows the tokens between blocks; this model is a {type(model).__name__}"
            )
        else:
            checks.check_edit(model)
        asked = _Asked(formula, model, inputs, targets, score, axis, grid, streams)
        _check_matrices(_shapes(asked), square)
        check_independence(model, inputs, score)
        if targets is not None and not checks.is_traced(targets):
            _, classes = _compiled.eval_shape(asked, **options)
            checks.check_classes(targets, classes.shape[1])
            check_score(score, classes.shape[1])
        explanation, _ = _compiled(asked, **options)
    if not squeeze:
        return explanation
    names = ("heatmap", "targets", "peak", "confidence")
    return explanation._replace(**{name: getattr(explanation, name)[:, 0] for name in names})


def _shapes(asked: _Asked) -> list[tuple[int, ...]]:
    shown = jax.eval_shape(asked.model, asked.inputs)
    matrices = shown[1] if isinstance(shown, tuple | list) and len(shown) == 2 else None
    if not isinstance(matrices, tuple | list) or not matrices:
        raise TypeError(
            "the model did not return (outputs, (matrix, ...)): wanted the attention matrices "
            "(batch, heads, queries, keys) of its blocks. from_linen and the other adapters make a "
            "model whose attention is found"
        )
    return [matrix.shape for matrix in (matrices[::2] if asked.streams else matrices)]


def _check_matrices(shapes: Sequence[tuple[int, ...]], square: bool) -> None:
    ranks = {len(shape) for shape in shapes}
    keys = {shape[-1] for shape in shapes}
    # The last matrix may be that of a pool, whose learned queries are not tokens.
    squares = shapes[:-1] if square else []
    if ranks != {4} or len(keys) > 1 or any(shape[-1] != shape[-2] for shape in squares):
        raise ValueError(
            f"the network's attention matrices have shapes {list(dict.fromkeys(shapes))}, wanted "
            "(batch, heads, tokens, tokens) with the same tokens in all blocks. Windows and merged "
            "tokens have no common grid: use a method of activations or gradients, such as "
            "grad_cam"
        )


@filter_jit
def _compiled(asked: _Asked, **options: Any) -> tuple[Explanation, Float[Array, "batch classes"]]:
    model, inputs, score = asked.model, asked.inputs, asked.score

    def run(taps: Sequence[Any], last: Any = None) -> tuple[Array, Any, Any]:
        edits: list[Any] = [None if tap is None else _Add(tap) for tap in taps]
        if asked.streams:
            replaced = None if last is None else lambda stream: last.astype(stream.dtype)
            edits = [each for edit in edits for each in (edit, None)]
            edits[-1] = replaced
        edit = {"edit": tuple(edits)} if any(edits) else {}
        outputs, shown = model(inputs, **edit)
        return class_scores(score, outputs, len(inputs)), outputs, shown

    nothing = [None] * len(_shapes(asked))
    confidence, outputs, shown = run(nothing)
    matrices = tuple(shown[::2] if asked.streams else shown)
    targets = confidence.argmax(1)[:, None] if asked.targets is None else asked.targets

    def streams(taps: Sequence[Any]) -> tuple[Sequence[Array], Callable[[Array], Array]]:
        return run(taps)[2][1::2], lambda last: run(nothing, last)[0]

    space = spatial_shape(inputs, asked.channel_axis)
    to_grid, frame, reads_all = _place(asked, matrices[0].shape[-1], space)
    queries = matrices[-1].shape[-2]
    read = jnp.full(queries, 1 / queries) if reads_all else jax.nn.one_hot(0, queries)
    seen = Seen(
        [in_full_precision(matrix) for matrix in matrices], read, targets,
        lambda taps: run(taps)[0], streams if asked.streams else None,
        _on_grid(to_grid, matrices[-1].shape[-1]), lambda: _compared(model, inputs),
    )  # fmt: skip
    tokens = asked.formula(seen, **options)
    sums = to_grid(tokens.reshape(-1, tokens.shape[-1], 1))[..., 0]
    sums = sums.reshape(*tokens.shape[:2], *sums.shape[1:])
    heatmap = resize_rectify_normalize(sums, space if frame is None else frame.shape)
    visible = None
    if frame is not None:
        visible = jnp.broadcast_to(frame.is_seen(space), (len(inputs), *space))
        heatmap = jnp.where(visible[:, None], frame.into_image(heatmap, space), 0)
    heatmap = jnp.broadcast_to(finite_or_empty(heatmap), (*targets.shape, *heatmap.shape[2:]))
    explanation = Explanation(
        heatmap, None, None, matrices, outputs, targets,
        jnp.broadcast_to(peak_of(sums), targets.shape), of_targets(confidence, targets),
        channel_axis=Axis(-1), seen=visible,
    )  # fmt: skip
    return explanation, confidence


def _on_grid(to_grid: Callable[[Array], Array], count: int) -> Bool[Array, " keys"]:
    """Which of `count` tokens lie on the grid."""
    numbers = to_grid(jnp.arange(float(count))[None, :, None])
    return jnp.zeros(count, bool).at[numbers.ravel().astype(int)].set(True)


def _compared(model: AnyModel, inputs: Array) -> Compared | None:
    """The queries and keys of a model's last attention."""
    arrays, static = split_arrays(model)
    traced = jax.make_jaxpr(lambda arrays, inputs: join_arrays(arrays, static)(inputs)[0])(
        arrays, inputs
    )
    leaves = jax.tree.leaves(arrays)
    return read_compared(traced.jaxpr, traced.consts, [*leaves, inputs], len(leaves))


@dataclasses.dataclass(frozen=True)
class _Add:
    tap: Any

    def __call__(self, matrix: Array) -> Array:
        return matrix + self.tap.astype(matrix.dtype)


def _place(
    asked: _Asked, count: int, space: tuple[int, ...]
) -> tuple[Callable[[Array], Array], Frame | None, bool]:
    """How to arrange `count` tokens as a grid, its frame, and whether all queries are read."""
    known = getattr(asked.model, "attended", None)
    if known is not None:
        last = known(asked.inputs)[-2 if asked.streams else -1]
        if asked.grid is None and last.keys is not None:
            return last.keys.to_grid, last.frame, last.reads_all
    # Without `keys`, the tokens of a known network form no grid.
    grid = asked.grid or (_like(space, count) if known is None else None)
    if grid is None or math.prod(grid) > count or len(grid) != len(space):
        raise ValueError(
            f"{count} tokens form no grid {grid or 'like the image'} {space}: pass "
            "grid=(height, width), the numbers of patches along each axis, to the method"
        )
    extra = count - math.prod(grid)
    reads_all = last.reads_all if known is not None else not extra

    def to_grid(tokens: Array) -> Array:
        return tokens[:, extra:].reshape(len(tokens), *grid, tokens.shape[-1])

    return to_grid, None, reads_all


def _like(space: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """The grid of an image's proportions that `count` tokens form, after a few extra tokens."""
    for side in range(1, max(space) + 1):
        grid = tuple(size // side for size in space)
        fits = not any(size % side for size in space)
        if fits and 0 <= count - math.prod(grid) <= MOST_EXTRA_TOKENS and math.prod(grid) > 1:
            return grid
    return None

"""Which part of the image each cell of a layer sees: measured, not deduced from the program.

Noise is put into one patch of the image at a time, and the cells that change are noted. The centre
of what changes is compared with the centre of the cells that lie over the patch. A straight line
fitted to these pairs shows whether the grid is aligned with the image, or turned, mirrored, cropped
or scattered. It does not matter how the network is written.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from scorecam_jax._internal.filter_jit import filter_jit
from scorecam_jax.contract.findings import Finding
from scorecam_jax.contract.model import channel_axis_of
from scorecam_jax.contract.per_input import take_rows
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.steps.masks import spatial_shape

SHARE = 0.18
"""The side of a patch, as a share of the image's."""

AT_ONCE = 7
"""How many patches are looked at in one pass: four passes for an image or a volume."""

_LATTICE = {1: 25, 2: 5, 3: 3}  # patches along each axis
_LINE = 0.6  # the least r² of places
_FAINT = 0.05  # a patch that changes less than this share of what others do is not heard

ALIGNED = "aligned"


class Registration(NamedTuple):
    """How a layer's cells lie in the image, in fractions of its extent from its centre.

    Attributes:
        slope: (r, r). A cell's position is slope @ position in the image + offset.
        offset: (r,).
        r2: the share of the variance of the positions that this line explains.
        heard: the number of patches that changed any cell.
        patches: the number of patches.
        verdict: "aligned", or a description of what is wrong.
        box: the first and last pixel edge between which the map is drawn, along each image axis.
    """

    slope: Float[np.ndarray, "rank rank"]
    offset: Float[np.ndarray, " rank"]
    r2: float
    heard: int
    patches: int
    verdict: str
    box: tuple[tuple[float, float], ...]

    @property
    def aligned(self) -> bool:
        """Whether each cell sees the place where the map is drawn."""
        return self.verdict == ALIGNED

    @property
    def measurable(self) -> bool:
        """Whether enough patches changed a cell to fit the line."""
        return self.heard > len(self.offset)

    @property
    def finding(self) -> Finding | None:
        """A warning about maps of this layer; None if the layer is aligned."""
        if self.aligned:
            return None
        return Finding("places", self.r2, f"the layer's places are not the image's: {self}")

    def __str__(self) -> str:
        slope = "; ".join(" ".join(f"{value:.2f}" for value in row) for row in self.slope)
        offset = " ".join(f"{value:.2f}" for value in self.offset)
        return (
            f"{self.verdict} (slope [{slope}], offset [{offset}], r² {self.r2:.2f}, "
            f"{self.heard} of {self.patches} patches heard)"
        )


def registration(model: Callable[..., Any], inputs: Any, *, channel_axis: int | None = None) -> Any:
    """Measure which part of the image each cell of a model's layer sees.

    Noise is put into 25 patches of the first input, one at a time (27 of a volume), which takes 28
    forward passes up to the layer, seven at a time, compiled once per shape. The result does not
    depend on how the network is written. `finding` is set if a map would be drawn in the wrong
    place.

    Args:
        model: a `Model` from an adapter, or any function `inputs -> (outputs, activations)`.
        inputs: (N, *spatial, C), floating point, N at least 1; as the model expects them.
        channel_axis: where inputs and activations have their channels, of a plain function.

    Returns:
        A `Registration`; of a model of several layers, a tuple of one for each.

    Raises:
        ValueError: the values are not known, because this is called under `jit`; or the layer has
            no grid.

    >>> import jax
    >>> def upside_down(x):  # a toy network whose cells are pixels, the last row first
    ...     activations = jax.nn.relu(x[:, ::-1])
    ...     return activations.mean((1, 2)), activations
    >>> registration(upside_down, jnp.ones((1, 10, 10, 3))).verdict
    'mirrored'
    """
    axis = channel_axis_of(model, channel_axis)
    model, image = split_inputs(model, inputs)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((model, image))):
        raise ValueError(
            "registration needs the inputs' values: call it outside jit, before the compiled "
            "function"
        )
    rows = take_rows(model, jnp.zeros(AT_ONCE, int))
    shapes = jax.eval_shape(rows, jax.ShapeDtypeStruct((AT_ONCE, *image.shape[1:]), image.dtype))[1]
    several = isinstance(shapes, tuple | list)
    layers = list(shapes) if several else [shapes]
    for layer in layers:
        if len(layer.shape) != image.ndim:
            raise ValueError(
                f"the layer's activations have shape {layer.shape}, wanted a grid like the image's "
                f"{image.shape}: name another layer, or pass grid=(height, width) to the adapter"
            )
    space = spatial_shape(image, axis)
    whole = tuple((0.0, float(size)) for size in space)
    frames = getattr(model, "frames", None)
    found = [None] * len(layers) if frames is None else frames(image)

    def activations(images: Any) -> list[Any]:
        shown = _activations(rows, images)
        return list(shown) if several else [shown]

    responses = respond(activations, image[:1], axis, [axis % image.ndim] * len(layers))
    boxes = [
        tuple((float(low), float(high)) for low, high in frame.box) if frame else whole
        for frame in found
    ]
    measured = tuple(
        fit(response, response.changes.shape[1:], box)
        for response, box in zip(responses, boxes, strict=True)
    )
    return measured if several else measured[0]


@filter_jit
def _activations(model: Callable[..., Any], images: Any) -> Any:
    return model(images)[1]


class Responses(NamedTuple):
    """What changed in a layer.

    Attributes:
        patches: which pixels each patch covers.
        changes: the change of each entry of the layer.
    """

    patches: Bool[np.ndarray, "patches *space"]
    changes: Float[np.ndarray, "patches *cells"]


def respond(
    activations: Callable[[Any], Sequence[Any]],
    image: Any,
    channel_axis: int,
    channels: Sequence[int],
) -> list[Responses]:
    """Put noise into one patch of an image at a time.

    Args:
        activations: `AT_ONCE` images -> what each of some layers returns for them.
        image: (1, ...), any image that the network takes.
        channel_axis: where it has its channels.
        channels: which axis of each layer's activations is the channels'.

    Returns:
        What changed in each layer.
    """
    image = np.asarray(image)
    space = spatial_shape(image, channel_axis)
    lattice = _LATTICE.get(len(space), 2)
    steps = [(i + 0.5) / lattice for i in range(lattice)]
    patches = np.stack([_patch(at, space) for at in itertools.product(steps, repeat=len(space))])
    deviation = float(image.astype(np.float32).std()) or 1.0
    noise = 2 * deviation * np.random.default_rng(0).normal(size=image.shape)
    masks = np.expand_dims(patches, channel_axis % image.ndim)
    changed = np.where(masks, image + noise, image).astype(image.dtype)
    rows = np.concatenate([image, changed])
    rows = rows[np.arange(-(-len(rows) // AT_ONCE) * AT_ONCE).clip(max=len(rows) - 1)]
    found: list[list[np.ndarray]] = [[] for _ in channels]
    whole: list[np.ndarray] = []
    for start in range(0, len(rows), AT_ONCE):
        shown = activations(jnp.asarray(rows[start : start + AT_ONCE]))
        values = [np.asarray(value, np.float32) for value in shown]
        whole = whole or [value[:1] for value in values]
        for changes, value, before, axis in zip(found, values, whole, channels, strict=True):
            changes.append(np.sqrt(((value - before) ** 2).sum(axis)))
    return [Responses(patches, np.concatenate(changes)[1 : len(patches) + 1]) for changes in found]


def fit(
    responses: Responses, grid: Sequence[int], box: Sequence[tuple[float, float]]
) -> Registration:
    """Compare the cells that changed with the cells that should have.

    Args:
        responses: the patches, and what changed in each cell: (patches, *grid).
        grid: how many cells there are along each axis.
        box: from which pixel to which they are thought to lie along each axis.
    """
    patches, changes = responses
    rank = len(grid)
    covered = np.stack([_overlap(patch, grid, box) for patch in patches])
    # Of a crop, only patches that it holds at least half of count.
    within = _above(covered.reshape(len(patches), -1).sum(1), 0.5)
    heard = _above(changes.reshape(len(changes), -1).sum(1), _FAINT)
    both = heard & within
    box = tuple((float(low), float(high)) for low, high in box)
    expected = int(within.sum())
    if both.sum() <= rank:
        nothing = np.zeros((rank, rank)), np.zeros(rank), 0.0, int(both.sum()), expected
        what = "no places: hardly any patch changes the layer" if heard.sum() <= rank else None
        what = what or "cropped: hardly any patch that should change the layer does"
        return Registration(*nothing, what, box)
    seen, wanted = _centres(changes)[both], _centres(covered)[both]
    design = np.c_[wanted, np.ones(len(wanted))]
    line = np.linalg.lstsq(design, seen, rcond=None)[0]
    total = float(((seen - seen.mean(0)) ** 2).sum())
    spread = float(((wanted - wanted.mean(0)) ** 2).sum())
    rest = float(((seen - design @ line) ** 2).sum())
    r2 = 1 - rest / total if total > 0.01 * spread else 0.0
    slope, offset = line[:rank].T, line[rank]
    alone = np.array([count == 1 for count in grid])  # one cell along an axis is in its place
    words = _verdict(slope, offset, r2, int(both.sum()), expected, alone)
    return Registration(slope, offset, r2, int(both.sum()), expected, words, box)


def _above(sums: np.ndarray, share: float) -> np.ndarray:
    """Which sums are more than a share of what the positive ones usually are."""
    positive = sums[np.isfinite(sums) & (sums > 0)]
    return np.isfinite(sums) & (sums > (share * np.median(positive) if len(positive) else 0))


def _verdict(
    slope: np.ndarray, offset: np.ndarray, r2: float, heard: int, patches: int, alone: np.ndarray
) -> str:
    lines = slope[~alone][:, ~alone]
    turned = np.abs(lines).argmax(1).tolist()
    if r2 >= _LINE and (np.abs(lines).max(1) < 0.4).any():
        return "no places along an axis"
    if r2 < _LINE or sorted(turned) != list(range(len(lines))):
        return "no places: what changes does not follow what was changed"
    if turned != list(range(len(lines))):
        return "axes swapped"
    along = np.diag(lines)
    if (along < 0).any():
        return "mirrored"
    if (along > 1.25).any() or heard < 0.8 * patches:
        return "cropped: parts of the image are not seen"
    if (np.abs(offset[~alone]) > 0.12).any() or (along < 0.72).any():
        return "shifted or padded"
    return ALIGNED


def _patch(centre: Sequence[float], space: Sequence[int]) -> np.ndarray:
    inside = np.ones((), bool)
    for axis, (at, size) in enumerate(zip(centre, space, strict=True)):
        side = max(1, round(SHARE * size))
        low = int(np.clip(round(at * size - side / 2), 0, size - side))
        line = np.zeros(size, bool)
        line[low : low + side] = True
        inside = inside & line.reshape([-1 if a == axis else 1 for a in range(len(space))])
    return np.broadcast_to(inside, tuple(space))


def _overlap(
    patch: np.ndarray, grid: Sequence[int], box: Sequence[tuple[float, float]]
) -> np.ndarray:
    """The number of a patch's pixels that lie in each cell."""
    share = patch.astype(float)
    for axis, (cells, (low, high)) in enumerate(zip(grid, box, strict=True)):
        edges = np.linspace(low, high, cells + 1)
        pixels = np.arange(patch.shape[axis])
        ends = np.minimum(pixels + 1, edges[1:, None])
        part = np.clip(ends - np.maximum(pixels, edges[:-1, None]), 0, 1)
        share = np.moveaxis(np.tensordot(part, share, (1, axis)), 0, axis)
    return share


def _centres(changes: np.ndarray) -> np.ndarray:
    """The centre of each change, measured from the middle of the grid: (patches, axes)."""
    grid = changes.shape[1:]
    flat = changes.reshape(len(changes), -1).astype(float)
    flat = flat / np.maximum(flat.mean(0), 1e-30)  # a cell that always changes says nothing
    flat = np.maximum(flat - np.median(flat, 1, keepdims=True), 0) ** 2
    places = [(np.arange(count) + 0.5) / count - 0.5 for count in grid]
    cells = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, len(grid))
    return flat @ cells / np.maximum(flat.sum(1), 1e-30)[:, None]

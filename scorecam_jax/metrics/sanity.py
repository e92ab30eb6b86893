"""Sanity checks: whether the heatmap depends on the learned weights, and on the class."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.metrics.complexity import histogram_entropy
from scorecam_jax.metrics.masked import classes_of, count_classes, fitting
from scorecam_jax.steps.filters import gaussian_window, smooth
from scorecam_jax.steps.masks import divide, is_constant
from scorecam_jax.steps.outputs import in_full_precision


class Randomization(NamedTuple):
    """The similarity of heatmaps to the trained model's while layer after layer is randomized.

    Attributes:
        layers: the S layers, from the output down. At step s, the first s + 1 are randomized.
        spearman: (S, B), rank correlation of the heatmap with the trained model's.
        ssim: (S, B), structural similarity of the heatmap to the trained model's.
    """

    layers: tuple[str, ...]
    spearman: Float[Array, "steps batch"]
    ssim: Float[Array, "steps batch"]


def shuffle(key: PRNGKeyArray, parameters: Array) -> Array:
    """Shuffle an array's values, which keeps their distribution."""
    return jax.random.permutation(key, parameters.reshape(-1)).reshape(parameters.shape)


def parameter_randomization(
    model: Any,
    inputs: Any,
    targets: Any = None,
    *,
    method: Callable[..., Any],
    layers: Sequence[str],
    key: PRNGKeyArray,
    randomize: Callable[[PRNGKeyArray, Array], Array] = shuffle,
) -> Randomization:
    """Randomize the model from the output down and measure how the heatmaps change.

    A heatmap that stays the same does not depend on the trained weights: it shows edges, or large
    activations whatever their meaning. A final similarity far above 0 is a warning. How fast the
    similarity falls also depends on the layers. Maps that are mostly zero agree in their zeros, so
    compare with the similarity of two unrelated images.

    Args:
        model: a `Model` from an adapter that keeps the parameters' names, such as `from_linen`,
            `from_nnx` or `from_haiku`.
        inputs: (B, *spatial, C), with sides of at least 11 pixels, the size of SSIM's window.
        targets: None (each input's best class before randomization), an int, or (B,).
        method: called like `score_cam`; set its options with `functools.partial`.
        layers: paths of layers, from the output down, such as
            `[layer.path for layer in reversed(list_layers(model, inputs))]`. Layers in which
            nothing is left to randomize are skipped.
        key: the key of the randomization.
        randomize: (key, array) -> array. The default shuffles, which keeps variances positive. The
            original check draws new values from the distribution of the initialization.

    Returns:
        A `Randomization`.

    Raises:
        ValueError: no parameter belongs to any of `layers`, or the images are too small.

    Source: Adebayo et al. 2018 (arXiv 1810.03292), section 4.1, cascading randomization.
    """
    found, tree = jax.tree_util.tree_flatten_with_path(model)
    names = [_names(path) for path, _ in found]
    arrays = [array for _, array in found]
    original = method(model, inputs, targets)
    left = {
        index for index, array in enumerate(arrays) if jnp.issubdtype(array.dtype, jnp.floating)
    }
    rows = []
    for layer in layers:
        chosen = _parameters(tuple(layer.split("/")), names) & left
        left -= chosen
        for index in sorted(chosen):
            key, own = jax.random.split(key)
            arrays[index] = randomize(own, arrays[index])
        if chosen:
            heatmap = method(jax.tree.unflatten(tree, arrays), inputs, original.targets).heatmap
            pair = original.heatmap, heatmap
            rows.append((layer, spearman(*pair), ssim(*pair)))
    if not rows:
        known = sorted({"/".join(name) for name in names})
        raise ValueError(
            f"no parameter belongs to any of the layers {list(layers)[:5]}; the parameters are "
            f"{known[:10]}{' ...' if len(known) > 10 else ''}. Make the model with an adapter that "
            "names its parameters, such as from_nnx, and use the layers' paths from list_layers"
        )
    steps, correlations, similarities = zip(*rows, strict=True)
    return Randomization(steps, jnp.stack(correlations), jnp.stack(similarities))


def efficient_randomization(
    model: Any,
    inputs: Any,
    targets: Any = None,
    *,
    method: Callable[..., Any],
    key: PRNGKeyArray,
    randomize: Callable[[PRNGKeyArray, Array], Array] = shuffle,
    complexity: Callable[[Float[Array, "batch *spatial"]], Array] = histogram_entropy,
) -> Float[Array, " batch"]:
    """The relative rise of the heatmap's complexity if the whole model is random; higher is better.

    (C(randomized) − C(trained)) / C(trained), with C the complexity of the heatmap; 0 where
    C(trained) is 0. It needs two heatmaps, while `parameter_randomization` needs one per layer, and
    it does not depend on a measure of similarity between heatmaps.

    The heatmap of a random model also depends on the network. Where coarse maps are enlarged, as in
    Score-CAM, they are smooth whatever the weights, and the rise is small or negative. Compare
    methods only on the same network and layer.

    Args:
        model: as in `parameter_randomization`. All of its floating-point arrays are randomized.
        inputs: (B, *spatial, C).
        targets: None (each input's best class before randomization), an int, or (B,).
        method: as in `parameter_randomization`.
        key: as in `parameter_randomization`.
        randomize: as in `parameter_randomization`.
        complexity: heatmaps (B, *spatial) -> (B,).

    Raises:
        ValueError: the model holds no parameters.

    Source: Hedström et al. 2024 (arXiv 2401.06465), efficient MPRT; Quantus's `EfficientMPRT`,
    whose number of histogram bins depends on the maps instead of being 100.
    """
    random = randomized(model, key, randomize)
    original = method(model, inputs, targets)
    again = method(random, inputs, original.targets)
    before, after = complexity(original.heatmap), complexity(again.heatmap)
    return divide(after - before, before)


def randomized(
    model: Any,
    key: PRNGKeyArray,
    randomize: Callable[[PRNGKeyArray, Array], Array] = shuffle,
) -> Any:
    """Randomize all floating-point arrays of a model.

    Raises:
        ValueError: the model holds none.
    """
    arrays, tree = jax.tree.flatten(model)
    chosen = [
        place for place, array in enumerate(arrays) if jnp.issubdtype(array.dtype, jnp.floating)
    ]
    if not chosen:
        raise ValueError(
            "the model holds no parameters to randomize: make it with an adapter such as from_nnx, "
            "or pass a jax.tree_util.Partial of a function and its parameters"
        )
    for place, own in zip(chosen, jax.random.split(key, len(chosen)), strict=True):
        arrays[place] = randomize(own, arrays[place])
    return jax.tree.unflatten(tree, arrays)


def random_logit(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    explain: Callable[[Array, Array], Array],
    key: PRNGKeyArray,
    similarity: str | Callable[[Array, Array], Array] = "ssim",
    **reading: Unpack[Output],
) -> Float[Array, " batch"]:
    """Similarity of the heatmap to that of another class, drawn at random; lower is better.

    A heatmap that is the same for any class shows what the model sees, not why it decides. Classes
    that share evidence have similar maps for good reasons; with few classes, such a class is likely
    to be drawn. Maps that are mostly zero agree in their zeros.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        explain: (inputs, targets (B,)) -> heatmaps, the method that made the heatmaps. Example:
            `lambda x, t: score_cam(model, x, t).heatmap`.
        key: the key of the classes.
        similarity: "ssim", "spearman", or a function of two batches of heatmaps.
        **reading: see `Output`; the score chooses the class where `targets` is None.

    Raises:
        ValueError: the model has a single class, or the heatmaps do not fit the inputs.

    Source: Sixt et al. 2020 (arXiv 1912.09818); Quantus's `RandomLogit`. Quantus 0.6 computes the
    SSIM of flattened maps, whose window contains no neighbours above or below.
    """
    model, inputs, heatmaps, _ = fitting(
        model, inputs, heatmaps, reading, tuple(Output.__annotations__)
    )
    targets = classes_of(model, inputs, targets, reading)
    classes = count_classes(model, inputs, reading)
    if classes < 2:
        raise ValueError("the model has a single class, so there is no other to compare with")
    if isinstance(similarity, str):
        if similarity not in _SIMILARITIES:
            known = ", ".join(map(repr, _SIMILARITIES))
            raise ValueError(f"similarity is {similarity!r}, wanted {known} or a function")
        similarity = _SIMILARITIES[similarity]
    others = (targets + jax.random.randint(key, targets.shape, 1, classes)) % classes
    return similarity(heatmaps, explain(inputs, others))


@jax.jit
def spearman(
    a: Float[Array, "batch *spatial"], b: Float[Array, "batch *spatial"]
) -> Float[Array, " batch"]:
    """The rank correlation of each pair of maps, in [-1, 1]; 0 if one of them is constant.

    Equal values get the mean of their ranks, as in `scipy.stats.spearmanr`.

    >>> spearman(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[1.0, 8.0, 9.0]]))
    Array([1.], dtype=float32)
    """
    return jax.vmap(lambda a, b: correlation(mean_ranks(a), mean_ranks(b)))(a, b)


def correlation(a: Float[Array, "*spatial"], b: Float[Array, "*spatial"]) -> Float[Array, ""]:
    """Pearson's correlation of two maps; 0 if one of them varies only by rounding."""
    a, b = _deviations(a), _deviations(b)
    norms = jnp.sqrt((a**2).sum()) * jnp.sqrt((b**2).sum())
    return jnp.clip(divide((a * b).sum(), norms), -1, 1)


def _deviations(values: Float[Array, "*spatial"]) -> Float[Array, "*spatial"]:
    """The deviations from the mean, scaled to at most 1, in float32 or wider."""
    values = in_full_precision(values)
    constant = is_constant(values, values.ndim)
    deviations = jnp.where(constant, 0, values - values.mean())
    return divide(deviations, jnp.abs(deviations).max())


@jax.jit
def ssim(
    a: Float[Array, "batch *spatial"], b: Float[Array, "batch *spatial"]
) -> Float[Array, " batch"]:
    """The mean structural similarity of each pair of maps in [0, 1]; 1 if they are equal.

    The window is a Gaussian of σ = 1.5 over 11 pixels; K1 = 0.01, K2 = 0.03, and the range is 1.
    The mean is over all positions where the window fits. This is scikit-image's
    `structural_similarity` with `gaussian_weights=True, use_sample_covariance=False, data_range=1`.

    Raises:
        ValueError: a side is shorter than the window.

    Source: Wang et al. 2004 (IEEE Transactions on Image Processing 13), Eq. 13.
    """
    if min(a.shape[1:]) < 11:
        raise ValueError(f"maps of shape {a.shape[1:]} are smaller than SSIM's window of 11")
    space = tuple(range(1, a.ndim))
    a, b = in_full_precision(a), in_full_precision(b)

    def local_mean(values: Array) -> Array:
        return smooth(values, gaussian_window(11, 1.5), space)

    mean_a, mean_b = local_mean(a), local_mean(b)
    variances = local_mean(a**2) - mean_a**2 + local_mean(b**2) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variances + c2)
    # Rounding would bring maps that hardly vary above 1.
    return jnp.clip(similarity, -1, 1).mean(space)


_SIMILARITIES = {"ssim": ssim, "spearman": spearman}


def mean_ranks(values: Float[Array, "*spatial"]) -> Float[Array, "*spatial"]:
    """Each value's rank, counted from 1/2; equal values get the mean of their ranks."""
    flat = values.reshape(-1)
    ordered = jnp.sort(flat)
    first = jnp.searchsorted(ordered, flat, side="left")
    after = jnp.searchsorted(ordered, flat, side="right")
    return ((first + after) / 2).reshape(values.shape)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The names on the path to a leaf, without leading indices, such as those of a `Partial`."""
    places = jax.tree_util.FlattenedIndexKey | jax.tree_util.SequenceKey
    named = itertools.dropwhile(lambda entry: isinstance(entry, places), path)
    texts = (
        str(next(getattr(entry, kind) for kind in ("key", "name", "idx") if hasattr(entry, kind)))
        for entry in named
    )
    return tuple("/".join(texts).split("/"))


def _parameters(layer: tuple[str, ...], names: list[tuple[str, ...]]) -> set[int]:
    """The parameters of a layer. A collection's name may precede the path, as in Linen."""
    for start in (0, 1):
        found = {
            index for index, name in enumerate(names) if name[start : start + len(layer)] == layer
        }
        if found:
            return found
    return set()

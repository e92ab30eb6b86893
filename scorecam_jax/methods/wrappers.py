"""Methods made from methods: maps averaged over noise, and components instead of sums."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.several import split_inputs
from scorecam_jax.engine.options import Masking
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.eigen_grad_cam import component_like_the_sum
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.scores import logits

Method = Callable[..., Explanation]


def noise_smoothed(
    method: Method, *, key: jax.Array, samples: int = 8, deviation: float = 0.1
) -> Method:
    """Make a method that averages another method's heatmaps over noisy inputs.

    Args:
        method: any method. It also runs once on the input without noise, for everything but the
            heatmap.
        key: the key of the noise, which is the same for all inputs.
        samples: the number of noisy inputs, at least 1.
        deviation: the noise's standard deviation, as a share of the range of each input's values.

    Returns:
        A method with the same arguments. Its heatmaps are the mean divided by its largest absolute
        value, which is `peak`. The targets are those of the input without noise.

    Raises:
        ValueError: `samples` is not positive.

    Source: the idea of SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825), applied to finished
    maps.

    >>> from scorecam_jax import grad_cam
    >>> smoother = noise_smoothed(grad_cam, key=jax.random.key(0), samples=2)
    >>> def model(x, edit=None):
    ...     layer = jax.nn.relu(x) if edit is None else edit(jax.nn.relu(x))
    ...     return layer.mean(1), layer
    >>> smoother(model, jnp.array([[[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]]]), 0).heatmap.shape
    (1, 3)
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, wanted at least 1")

    @functools.wraps(method)
    def smoothed(model: Any, inputs: Any, targets: Any = None, **options: Any) -> Explanation:
        found = method(model, inputs, targets, **options)
        model, images = split_inputs(model, inputs)
        images = jnp.asarray(images)
        axes = tuple(range(1, images.ndim))
        sigma = deviation * (images.max(axes, keepdims=True) - images.min(axes, keepdims=True))
        total = jnp.zeros_like(found.heatmap)
        # A Python loop, because each call is already compiled.
        for one in jax.random.split(key, samples):
            noise = jax.random.normal(one, (1, *images.shape[1:]), images.dtype)
            noisy = images + sigma.astype(images.dtype) * noise
            total = total + method(model, noisy, found.targets, **options).heatmap
        mean = total / samples
        space = tuple(range(found.targets.ndim, mean.ndim))
        size = jnp.abs(mean).max(space, keepdims=True)
        return found._replace(heatmap=divide(mean, size), peak=size.reshape(found.targets.shape))

    return smoothed


def eigen_smoothed(method: Method) -> Method:
    """Make a method that replaces the sum of weighted maps by their first principal component.

    The products w_k A_k are centred over the places and projected onto their first principal
    direction. The sign is that of a positive correlation with their sum. The component keeps what
    many maps have in common and drops what a few add.

    Args:
        method: a method whose explanations have `weights`: it weights whole maps.

    Returns:
        A method with the same arguments, and one more forward pass. Its heatmaps are the
        components, resized, rectified, and scaled to [0, 1].

    Raises:
        ValueError: the method does not weight whole maps.

    Source: `eigen_smooth=True` of pytorch-grad-cam 1.5.7, which keeps the arbitrary sign of its
    decomposition.
    """

    @functools.wraps(method)
    def smoothed(model: Any, inputs: Any, targets: Any = None, **options: Any) -> Explanation:
        found = method(model, inputs, targets, **options)
        if found.weights is None:
            raise ValueError(
                f"{getattr(method, '__name__', method)} does not weight whole maps, so there are "
                "no products of weights and maps: use eigen_grad_cam, which takes the component of "
                "the products of maps and gradients"
            )
        weights = found.weights if isinstance(found.weights, tuple) else (found.weights,)
        if found.targets.ndim == 1:
            weights = tuple(each[:, None] for each in weights)
        shared = {name: options[name] for name in Masking.__annotations__ if name in options}
        again = run(
            method, _component, model, inputs, found.targets, shared, score=logits,
            together=_components, weights=weights,
        )  # fmt: skip
        return found._replace(heatmap=again.heatmap, peak=again.peak, layers=again.layers)

    return smoothed


def _component(
    context: Context, weights: Sequence[Float[Array, "batch targets channels"]]
) -> Found:
    (each,) = weights
    maps = context.activations[:, None]
    products = jnp.expand_dims(each, context.space) * maps
    return context.finish(component_like_the_sum(products))


def _components(
    contexts: Sequence[Context], fuse: Any, weights: Sequence[Float[Array, "..."]]
) -> tuple[list[Found], None]:
    pairs = zip(contexts, weights, strict=True)
    return [_component(context, [each]) for context, each in pairs], None

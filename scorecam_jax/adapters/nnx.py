"""Models written in Flax NNX."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from scorecam_jax._internal.frameworks import check_network
from scorecam_jax.adapters.adapted import Adapted, call, check_state, unbound, updated
from scorecam_jax.adapters.model import Layers, show
from scorecam_jax.adapters.tokens import Grid
from scorecam_jax.contract.per_input import Arguments, count_images
from scorecam_jax.program.marks import marked_class


def from_nnx(
    model: Any,
    layer: Layers = None,
    *args: Any,
    method: str | Callable[..., Any] | None = None,
    layers: int | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
    per_input: Any = (),
    **kwargs: Any,
) -> Adapted:
    """Show one layer of a Flax NNX model.

    Layers: without a name, the layer is the last one that all paths from the image to the outputs
    pass through, and after which places are still mixed and weights still used. `list_layers` says
    of each layer whether that is so. In a vision transformer whose head reads the class token it is
    the block before the last: after the last attention the patch tokens have no influence. Where a
    function directly follows a layer it is named with it, `"features/norm:relu"`, and the default
    is its result. A layer that runs several times, also within a scan over stacked layers, is named
    with the run: `"blocks[-1]/norm"` is the last one, `"blocks[0]/norm"` the first.

    Several layers: `layers=n` shows that layer and, before it, the last one at each finer grid that
    all paths pass through, n in all and the finest first. Where one grid lasts throughout, as in a
    vision transformer, it shows n blocks at even distances. Methods explain several layers
    together; see `scorecam_jax.methods.fusion`.

    Tokens: the last `height * width` tokens of activations (N, tokens, K) become a grid
    (N, height, width, K); class and register tokens before them pass unchanged. The grid is that of
    the last layer before them that has one, such as the patch embedding, or `grid=(height, width)`.
    For tokens in another order, such as windows, pass a pair of functions
    `grid=(to_grid, from_grid)`.

    Args:
        model: called as `model(inputs, *args, **kwargs)`. It is copied as after `model.eval()`
            (BatchNorm uses its running statistics, Dropout does nothing) and is itself left as it
            is.
        layer: the path of a submodule, `"blocks/3/conv"` or `("blocks", 3, "conv")`. None picks
            one. A list of paths shows several layers.
        *args: passed to the model after the inputs.
        method: what is called instead of the model: the name of one of its methods, or a function
            `method(model, inputs, *args, **kwargs)`.
        layers: how many layers to show, by rule: `layer` and others before it.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens, the sizes of their grid; None takes it from the layers before.
        channel_axis: where the inputs, and the activations, have their channels; methods read it
            from the model.
        per_input: a list of further positional arguments, or a dict of further keyword arguments,
            each with one row per image; see `scorecam_jax.per_input`.
        **kwargs: passed to the model.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        ValueError: when called, if the layer is unknown, runs several times and is named without
            the run, or has no influence on the outputs; or if no layer is named and none will do.
    """
    from flax import nnx

    check_network(model, "from_nnx")
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    # A subclass, unlike a wrapper, keeps a layer's attributes and its place among its siblings.
    for path, module in list(nnx.iter_modules(copy)):
        if path and callable(module):
            kind = marked_class(type(module), tuple(map(str, path)))
            object.__setattr__(module, "__class__", kind)
    graphdef, state = nnx.split(copy)
    weights = (state, Arguments(args, kwargs, per_input))
    run = _Nnx(graphdef, unbound(method))
    return show(
        run, weights, layer, layers=layers, dtype=dtype, grid=grid, channel_axis=channel_axis
    )


@dataclasses.dataclass(frozen=True)
class _Nnx:
    graphdef: Any
    method: str | Callable[..., Any] | None

    def __call__(self, weights: Any, inputs: Any) -> Any:
        from flax import nnx

        state, arguments = weights
        args, kwargs = arguments.for_inputs(count_images(inputs))
        before = jax.tree.leaves(state)  # now, because the model shares its variables
        model = nnx.merge(self.graphdef, state)
        outputs = call(model, self.method, inputs, *args, **kwargs)
        # What is only noted down of a call, as by `sow`, is no state of the network.
        after = nnx.state(model, nnx.Not(nnx.Any(nnx.Intermediate, nnx.Perturbation)))
        # A transform such as `nnx.jit` returns all variables anew. Then the program has to tell.
        if not updated(before, nnx.state(model, nnx.Param)):
            check_state(updated(before, after))
        return outputs

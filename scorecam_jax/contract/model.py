"""The contract: what a model is, and which attributes methods use."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from scorecam_jax.contract.per_input import Arguments, Layout
from scorecam_jax.steps.frames import Frame


@runtime_checkable
class Model(Protocol):
    """A network that also returns the activations of one of its layers. Adapters return one.

    Called with `inputs` (N, *spatial, C), it returns `(outputs, activations)`: `outputs` is any
    pytree of arrays with leading axis N, `activations` is (N, *grid, K).

    `edit` is a function from activations to activations of the same shape. It is applied to the
    layer's output, and the rest of the network runs on its result. The returned activations are
    the edited ones. Laws:

    - without `edit` the outputs are the network's own;
    - `edit=lambda a: a` changes nothing;
    - `edit=lambda a: b` makes the outputs a function of `b` alone, along this layer's path.

    A model of several layers (`layer=[...]`) returns a tuple of activations, and `edit` is a tuple
    of one function, or None, for each.

    Methods also take a plain function, which lacks these attributes; see `AnyModel`.
    """

    @property
    def channel_axis(self) -> int:
        """The channel axis of inputs and activations."""

    def __call__(self, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        """Run the network."""

    def follow_score(self, score: Callable[[Any], Any], inputs: Any) -> "Model":
        """The model with its default layer chosen for the outputs that a score reads."""

    def measured(self, inputs: Any, score: Callable[[Any], Any] | None = None) -> "Model":
        """The model with its layer's position in the image measured, if it was only assumed."""

    def frames(self, inputs: Any) -> tuple[Frame | None, ...]:
        """The part of the image that each layer covers; None for the whole image."""

    def then(self, function: Callable[..., Any], arrays: tuple[Any, ...]) -> "Model":
        """The model with its outputs passed on to a function; see `contract.outputs.then`."""

    def feed(self, layout: Layout, others: Arguments) -> "Model":
        """The model as a function of the image alone, with its other inputs fixed."""


AnyModel: TypeAlias = Model | Callable[..., tuple[Any, Any]]
"""What methods, metrics and the engine take: a `Model`, or a plain function.

A function `inputs -> (outputs, activations)` suffices for methods that only mask the input. Methods
that differentiate with respect to activations or replace them need
`(inputs, edit=None) -> (outputs, activations)`. A function may have an attribute `channel_axis`.
Without it, the axis is the one that is passed to the method, or the last one. A function's layer is
fixed. It may take several inputs.
"""


def channel_axis_of(model: AnyModel, named: int | None = None) -> int:
    """The channel axis of a model's inputs and activations.

    Args:
        model: a model from an adapter, which has a channel axis, or a plain function, which may
            have none.
        named: the axis that the caller passed, or None.

    Returns:
        The model's own axis, else the named one, else -1.

    Raises:
        ValueError: the model's axis differs from the named one.
    """
    wrapped = getattr(model, "func", None)  # of a `functools.partial` of a model
    own = getattr(model, "channel_axis", getattr(wrapped, "channel_axis", None))
    if own is None:
        return -1 if named is None else named
    if named is not None and named != own:
        raise ValueError(
            f"channel_axis is {named}, but the model was made with channel_axis={own}: leave it "
            f"out here, or pass channel_axis={named} to the adapter that made the model"
        )
    return own

"""The contract: what a model is, and which attributes methods use."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from scorecam_jax.contract.per_input import Arguments, Layout
from scorecam_jax.steps.frames import Frame


@runtime_checkable
class Model(Protocol):
    """A network that shows one of its layers: what an adapter returns.

    Called with `inputs` (N, *spatial, C) it returns `(outputs, activations)`: `outputs` is any
    pytree of arrays with leading axis N, `activations` is (N, *grid, K).

    `edit`, a function from activations to activations of the same shape, is applied where they
    arise, and the rest of the network runs on what it returns; the returned activations are the
    edited ones. Laws:

    - without `edit` the outputs are the network's own;
    - `edit=lambda a: a` changes nothing;
    - `edit=lambda a: b` makes the outputs a function of `b` alone, along this layer's path.

    A model of several layers (`layer=[...]`) returns a tuple of activations, and `edit` is a tuple
    of one function, or None, for each.

    Methods also take a plain function, which lacks these attributes; see `AnyModel`.
    """

    @property
    def channel_axis(self) -> int:
        """Where inputs and activations have their channels."""

    def __call__(self, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        """Run the network."""

    def follow_score(self, score: Callable[[Any], Any], inputs: Any) -> "Model":
        """The model with its default layer chosen for those outputs that a score reads."""

    def measured(self, inputs: Any, score: Callable[[Any], Any] | None = None) -> "Model":
        """The model with its layer's place in the image measured if it was only guessed."""

    def frames(self, inputs: Any) -> tuple[Frame | None, ...]:
        """The part of the image that each of its layers lies over; None for all of it."""

    def then(self, function: Callable[..., Any], arrays: tuple[Any, ...]) -> "Model":
        """The model with its outputs passed on to a function; see `contract.outputs.then`."""

    def feed(self, layout: Layout, others: Arguments) -> "Model":
        """The model as a function of the image alone, with its other inputs given."""


AnyModel: TypeAlias = Model | Callable[..., tuple[Any, Any]]
"""What methods, metrics and the engine take: a `Model`, or a plain function.

A function `inputs -> (outputs, activations)` serves methods that only mask the input. Those that
differentiate by activations or replace them need `(inputs, edit=None) -> (outputs, activations)`.
A function may have an attribute `channel_axis`. Without it, the axis is the last one, or the one
that is passed to the method. Its layer is fixed, and it has one input, or as many as it takes.
"""


def channel_axis_of(model: AnyModel, named: int | None = None) -> int:
    """The channel axis of a model's inputs and activations.

    Args:
        model: models from an adapter know theirs; a plain function does not.
        named: the axis that the caller named, or None.

    Returns:
        The model's own axis, else the named one, else -1.

    Raises:
        ValueError: the model's axis differs from the one named.
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

"""What an adapter returns: a network whose settings are read again at each call."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from scorecam_jax._internal.keys import Static
from scorecam_jax._internal.notes import check_arrays, noting
from scorecam_jax._internal.trees import cast
from scorecam_jax.adapters.tokens import Attended, View
from scorecam_jax.contract.per_input import Arguments, Layout, check_rows
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.steps.frames import Frame


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as `(weights, image) -> outputs`.

    Attributes:
        run: `(weights, inputs) -> outputs`.
        channel_axis: where the image has its channels.
        layout: how `run` takes its inputs, if the image is one of several. The others then follow
            the weights.
    """

    run: Callable[[Any, Any], Any]
    channel_axis: int
    layout: Layout | None = None

    def __call__(self, weights: Any, image: Any) -> Any:
        """Run the network; an exception notes how the image was read."""
        check_rows(weights, image.shape[0])
        with noting(image, self.channel_axis):
            inputs = image
            if self.layout is not None:
                weights, others = weights
                inputs = self.layout(image, others.for_inputs(image.shape[0])[0])
            outputs = self.run(weights, inputs)
        check_arrays(outputs)
        return outputs


@dataclasses.dataclass(frozen=True)
class Followed:
    """A network's run, and a function that its outputs are passed on to."""

    run: Callable[[Any, Any], Any]
    function: Callable[..., Any]

    def __call__(self, weights: Any, inputs: Any) -> Any:
        """Run both; the function's arrays follow the weights."""
        weights, arrays = weights
        return self.function(*arrays, self.run(weights, inputs))


class Adapted(jax.tree_util.Partial):
    """A `Partial` whose function JAX need not be able to hash.

    JAX flattens whatever is passed to a compiled function. The settings are frozen at that moment:
    equal settings share a trace, and changed settings get a new one.
    """

    @property
    def channel_axis(self) -> int:
        """Where inputs and activations have their channels."""
        shown: Any = self.func
        return shown.channel_axis

    def __call__(self, inputs: Any, edit: Any = None) -> Any:
        """Run the network on an image, or on a list or dict of inputs that begins with one."""
        model: Any
        model, image = split_inputs(self, inputs)
        return model.func(*model.args, image, edit)

    def follow_score(self, score: Callable[[Any], Any], inputs: Any) -> "Adapted":
        """The model with its default layer chosen for those outputs that a score reads."""
        shown: Any = self.func
        return shown.follow_score(self, score, inputs)

    def measured(self, inputs: Any, score: Callable[[Any], Any] | None = None) -> "Adapted":
        """The model with its layers' places measured where the program does not tell them."""
        followed = self if score is None else self.follow_score(score, inputs)
        shown: Any = followed.func
        return Adapted(shown.register(*self.args, inputs), *self.args)

    def frames(self, inputs: Any) -> tuple[Frame | None, ...]:
        """The part of the image that each layer lies over; None for all of it."""
        shown: Any = self.func
        return shown.frames(*self.args, inputs)

    def then(self, function: Callable[..., Any], arrays: tuple[Any, ...]) -> "Adapted":
        """The model with its outputs passed on to a function."""
        shown: Any = self.func
        run = dataclasses.replace(shown.run, run=Followed(shown.run.run, function))
        weights = (*self.args, cast(arrays, shown.dtype))
        return Adapted(dataclasses.replace(shown, run=run), weights)

    def show_attention(self, inputs: Any, streams: bool = False) -> "Adapted":
        """The model with all of its attention matrices shown.

        Args:
            inputs: an input batch.
            streams: show after each matrix the tokens that its block returns.
        """
        shown: Any = self.func
        return Adapted(shown.show_attention(*self.args, inputs, streams), *self.args)

    def attended(self, inputs: Any) -> tuple[Attended, ...]:
        """How the tokens of each attention matrix shown lie over the image."""
        shown: Any = self.func
        return shown.attended(*self.args, inputs)

    def before_attention(self, inputs: Any) -> tuple["Adapted", View]:
        """The model with the tokens ahead of the last attention, and what it reads of them.

        Returns:
            The model, and what makes a grid of these tokens.
        """
        call: Any = self.func
        shown, view = call.before_attention(*self.args, inputs)
        return Adapted(shown, *self.args), view

    def feed(self, layout: Layout, others: Arguments) -> "Adapted":
        """The model of the image alone, the others of its inputs being given."""
        shown: Any = self.func
        run = dataclasses.replace(shown.run, layout=layout)
        weights = (*self.args, cast(others, shown.dtype))
        return Adapted(dataclasses.replace(shown, run=run), weights)


jax.tree_util.register_pytree_node(
    Adapted,
    lambda model: ((model.args, model.keywords), Static(model.func)),
    lambda static, children: Adapted(static.value, *children[0], **children[1]),
)


TO_PREDICT = (
    "Pass the adapter what makes the network predict, as the network names it: train=False, "
    "is_training=False, deterministic=True, use_running_average=True or inference=True"
)


def check_state(names: Sequence[str]) -> None:
    """ValueError if a call of the network updated the named arrays."""
    if names:
        listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        raise ValueError(
            f"the call of the network updates its state ({listed}), as in training. {TO_PREDICT}"
        )


def updated(before: Any, after: Any) -> list[str]:
    """The names of the arrays of a pytree that a call replaced, or added."""
    held = {id(leaf) for leaf in jax.tree.leaves(before)}
    leaves = jax.tree_util.tree_leaves_with_path(after)
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in leaves
        if id(leaf) not in held
    ]


def unbound(method: Any) -> Any:
    """A method by its function, which equal models share."""
    return getattr(method, "__func__", method)


def call(model: Any, method: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a model, or the method of it that is given by its name or as a function."""
    if method is None:
        return model(*args, **kwargs)
    if isinstance(method, str):
        return getattr(model, method)(*args, **kwargs)
    return method(model, *args, **kwargs)

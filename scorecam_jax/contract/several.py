"""Networks that take several inputs as one list, tuple or dict, with the image first."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax._internal.notes import noting
from scorecam_jax._internal.trees import is_array
from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.contract.per_input import Arguments, Layout, per_input


def split_inputs(model: AnyModel, inputs: Any) -> tuple[AnyModel, Any]:
    """Split a list, tuple or dict of inputs into the image, which comes first, and the others.

    Returns:
        A model of the image alone, which passes the other inputs to the network as `per_input`; and
        the image. Both arguments are returned unchanged if `inputs` is one array.

    Raises:
        TypeError: the first input is not an image: it is not floating point, or has fewer than
            three axes.
        ValueError: another input's number of rows is not the number of images, or the arrays could
            also be the images of one batch.
    """
    if not isinstance(inputs, list | tuple | Mapping):
        return model, inputs
    items = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    if not any(map(_is_input, items)):
        return model, inputs
    image, *others = items
    if not (_is_input(image) and jnp.issubdtype(image.dtype, jnp.floating) and image.ndim >= 3):
        raise TypeError(_first_is_no_image(inputs, image))
    shapes = {np.shape(item) for item in items}
    if isinstance(inputs, list) and others and len(shapes) == 1 and image.ndim == 3:
        raise ValueError(
            f"inputs are a list of {len(items)} arrays of shape {image.shape}, wanted one array: "
            "jnp.stack(images) if they are images; a tuple if they are the inputs of one network"
        )
    for array in filter(_is_input, jax.tree.leaves(others)):
        if array.shape[:1] != image.shape[:1]:
            raise ValueError(
                f"the inputs have shapes {image.shape} and {array.shape}, wanted one row per "
                f"image: ({image.shape[0]}, ...). Images are one array: jnp.stack(images)"
            )
    declared = [
        per_input(item) if any(map(_is_input, jax.tree.leaves(item))) else item for item in others
    ]
    keys = tuple(inputs) if isinstance(inputs, Mapping) else None
    layout = Layout(type(inputs), keys)
    feed = getattr(model, "feed", None)
    if feed is not None:
        return feed(layout, Arguments(declared, {})), image
    fed = _Fed(layout, channel_axis_of(model))
    return jax.tree_util.Partial(fed, model, Arguments(declared, {})), image


def shapes_of(model: AnyModel, inputs: Any) -> Any:
    """The shapes of what a model returns for its inputs, one or several.

    The model is traced with the image alone, because tracing sorts the keys of a dict.

    Raises:
        TypeError, ValueError: as in `split_inputs`.
    """
    model, image = split_inputs(model, inputs)
    return jax.eval_shape(model, jnp.asarray(image))


@dataclasses.dataclass(frozen=True)
class _Fed:
    layout: Layout
    channel_axis: int

    def __call__(self, model: AnyModel, others: Arguments, image: Any, edit: Any = None) -> Any:
        inputs = self.layout(image, others.for_inputs(image.shape[0])[0])
        given = (
            f"The model was called with a {type(inputs).__name__} of {len(inputs)} inputs, the "
            "first of which is the image. If all are images, pass one array: "
            "jnp.concatenate(inputs)."
        )
        with noting(image, self.channel_axis, given):
            return model(inputs) if edit is None else model(inputs, edit=edit)


def _first_is_no_image(inputs: Any, first: Any) -> str:
    found = f"{first.dtype}{list(first.shape)}" if _is_input(first) else type(first).__name__
    where, how = "the first of the inputs", "Put the image first"
    if isinstance(inputs, Mapping):
        where = repr(next(iter(inputs)))
        how = "Put the image first; under jit use an OrderedDict, because jit sorts a plain dict"
    return (
        f"{where} is {found}, wanted the image: floating point (batch, *spatial, channels). {how}; "
        "or, if the network takes the others as further arguments, pass them to the adapter as "
        "per_input(array)"
    )


def _is_input(value: Any) -> bool:
    return is_array(value) or isinstance(value, jax.ShapeDtypeStruct)

"""Where a model has its channels."""

from typing import Any


def channel_axis_of(model: Any, named: int | None = None) -> int:
    """The channel axis of a model's inputs and activations.

    Args:
        model: models from an adapter know theirs; a plain function does not.
        named: what the caller named, or None.

    Returns:
        The model's own axis, else the named one, else -1.

    Raises:
        ValueError: the model knows another axis than the one named.
    """
    own = getattr(getattr(model, "func", model), "channel_axis", None)
    if own is None:
        return -1 if named is None else named
    if named is not None and named != own:
        raise ValueError(
            f"channel_axis is {named}, but the model was made with channel_axis={own}: leave it "
            f"out here, or pass channel_axis={named} to the adapter that made the model"
        )
    return own

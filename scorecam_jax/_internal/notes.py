"""Notes on errors that arise in the user's network."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def noting(inputs: Any, channel_axis: int = -1) -> Iterator[None]:
    """Add to an exception how the inputs were read, and what to try if they are not so."""
    try:
        yield
    except Exception as error:
        note = _how_read(tuple(inputs.shape), channel_axis)
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


def _how_read(shape: tuple[int, ...], channel_axis: int) -> str:
    if len(shape) < 3:
        return (
            f"The inputs have shape {shape}, wanted (batch, *spatial, channels). For one image add "
            "a batch axis, inputs[None]; for images without channels a channel axis, "
            "inputs[..., None]."
        )
    first = channel_axis in (1, 1 - len(shape))
    spatial = shape[2:] if first else shape[1:-1]
    axes = "(batch, channels, *spatial)" if first else "(batch, *spatial, channels)"
    size = " x ".join(map(str, spatial))
    channels = shape[1] if first else shape[-1]
    return (
        f"The inputs {shape} were read as {axes}: {shape[0]} of size {size} with {channels} "
        "channels. If this is one image, add a batch axis: inputs[None]. If the images have no "
        f"channel axis, add one: inputs[{':, None' if first else '..., None'}]."
    )

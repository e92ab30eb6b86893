"""Notes on errors that a network or a score function raises for its inputs."""

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp


@contextlib.contextmanager
def noting(inputs: Any, channel_axis: int = -1, given: str = "") -> Iterator[None]:
    """Add a note to the network's exception: how its inputs were read, and what to try."""
    try:
        yield
    except Exception as error:
        if is_our_own(error.__traceback__):
            raise
        note = given or _how_read(tuple(inputs.shape), channel_axis)
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


def is_our_own(traceback: TracebackType | None) -> bool:
    """Whether this package raised the error. Its errors already say what to try."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = "" if traceback is None else traceback.tb_frame.f_globals.get("__name__", "")
    return name.startswith("scorecam_jax.")


_OURS = ("scorecam_jax.", "jaxtyping.", "beartype.")  # the last two check types in tests


def warn_caller(text: str) -> None:
    """Warn at the line of the user's code that calls this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def is_one_array(outputs: Any) -> bool:
    """Whether a network returns a single array."""
    return hasattr(outputs, "shape")


def check_arrays(outputs: Any) -> None:
    """TypeError if a network's outputs contain anything but arrays."""
    for leaf in jax.tree.leaves(outputs):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            kind = type(leaf).__name__
            how = f"jax.tree_util.register_dataclass({kind})"
            if not dataclasses.is_dataclass(leaf):
                how = "return the arrays in a dict or tuple"
            raise TypeError(f"the model's outputs hold a {kind}, wanted arrays or pytrees: {how}")


def unscorable(arrays: Sequence[tuple[tuple[int, ...], Any]], batch: int) -> str | None:
    """Explain why a network's outputs have no class scores; None if some of them may be scored.

    Args:
        arrays: each output's shape and type.
        batch: the number of inputs.
    """
    wanted = f"wanted floating-point scores with one row per input, ({batch}, classes)"
    floating = [shape for shape, dtype in arrays if jnp.issubdtype(dtype, jnp.floating)]
    if any(shape[:1] == (batch,) for shape in floating):
        return None
    if not arrays:
        return f"the model returned no outputs, {wanted}: does it return what it computes?"
    found = ", ".join(f"{jnp.dtype(dtype).name}{list(shape)}" for shape, dtype in arrays[:8])
    if not floating:
        how = "return the logits, without argmax, rounding or a threshold"
    elif all(shape == () for shape in floating):
        how = "return the scores of the classes, not a loss or their mean"
    else:
        how = "if the inputs are a single image, add a batch axis: inputs[None]"
    return f"the model's outputs are {found}, {wanted}: {how}"


def choose_one(outputs: Any, batch: int) -> str:
    """An error message for outputs of several arrays: their names, and a `scores.select(...)`."""
    found, _ = jax.tree_util.tree_flatten_with_path(outputs)
    named = [(tuple(map(_key, path)), getattr(leaf, "shape", ())) for path, leaf in found]

    def suits(entry: tuple[tuple[Any, ...], tuple[int, ...]]) -> tuple[bool, bool]:
        path, shape = entry
        return len(shape) == 2 and shape[0] == batch, "logit" in str(path).lower()

    listed = ", ".join(f"{', '.join(map(repr, path))} {shape}" for path, shape in named[:8])
    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
    best = ", ".join(map(repr, max(named, key=suits)[0])) if named else "..."
    return (
        f"the model's outputs are a {type(outputs).__name__} of {listed or 'nothing'}{more}: "
        f"choose one, score=scores.select({best})"
    )


def _key(entry: Any) -> Any:
    names = (getattr(entry, kind, None) for kind in ("key", "name", "idx"))
    return next(name for name in names if name is not None)

"""The settings in the JSON files beside a checkpoint, whatever library wrote them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from PIL import Image

from scorecam_jax.models.checkpoints.errors import short

# Enough for the names of 100,000 classes, or of 200,000 tensors.
_LONGEST_JSON = 2**25


class Settings(NamedTuple):
    """What a configuration states about a network, in addition to its tensors.

    Attributes:
        publisher: `"timm"`, `"huggingface"` or `"keras"`; None without a configuration.
        architecture: the publisher's name for the network, if stated.
        classes: the number of classes, if stated.
        labels: the names of the classes, if stated.
        preprocess: the fields of a `Preprocess` that are stated.
        arguments: the arguments with which the publisher's network was created.
    """

    publisher: str | None = None
    architecture: str | None = None
    classes: int | None = None
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] = MappingProxyType({})
    arguments: Mapping[str, Any] = MappingProxyType({})


class Fields:
    """Reads values from a file's JSON, and refuses invalid ones with an error that names them."""

    def __init__(self, values: Mapping[str, Any], file: Path | None):
        self.values = values
        self.file = file

    def number(self, key: str, low: float | int, high: float | int) -> float | None:
        """A number within bounds, or None if it is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise self.wrong(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def triple(
        self, key: str, low: float | int, high: float | int
    ) -> tuple[float, float, float] | None:
        """Three numbers, one per channel, or None if they are missing; one number is repeated."""
        value = self.values.get(key)
        if value is None:
            return None
        several = value if isinstance(value, Sequence) else [value] * 3
        if len(several) != 3 or not all(
            not isinstance(each, bool) and isinstance(each, int | float) and low <= each <= high
            for each in several
        ):
            raise self.wrong(key, value, f"three numbers from {low:g} to {high:g}")
        return float(several[0]), float(several[1]), float(several[2])

    def choice(self, key: str, known: Sequence[Any]) -> Any:
        """One of the known values, or None if it is missing."""
        value = self.values.get(key)
        if value is not None and (isinstance(value, list | dict) or value not in known):
            raise self.wrong(key, value, f"one of {', '.join(map(str, known))}")
        return value

    def text(self, key: str) -> str | None:
        """A string, or None if it is missing."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def wrong(self, key: str, found: Any, wanted: str) -> ValueError:
        """The error about a wrong value."""
        shown = short(found) if isinstance(found, str | int | float) else short(str(found)[:80], 82)
        return ValueError(f"{self.file}: {key} is {shown}, wanted {wanted}")


def json_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file beside a checkpoint.

    Raises:
        ValueError: the file is too large, or is not a JSON object.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size > _LONGEST_JSON:
        raise ValueError(f"{path} has {size} bytes, too many for JSON: is it another file?")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, wanted a JSON object")
    return content


# Pillow's filters, by their names in configurations.
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def in_bytes(
    values: tuple[float | int, float | int, float | int], factor: float | int = 1 / 255
) -> tuple[float, float, float]:
    """Means or deviations for values from 0 to 255, from those for values times `factor`."""
    return values[0] / factor, values[1] / factor, values[2] / factor

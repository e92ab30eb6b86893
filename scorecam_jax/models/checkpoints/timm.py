"""timm's config.json, from a folder that it saved or from the Hugging Face Hub."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorecam_jax.models.checkpoints.settings import FILTERS, Fields, Settings, in_bytes
from scorecam_jax.models.labels import as_labels

# The `Preprocess.fit` of each of timm's crop modes.
_FITS = {"center": "crop", "squash": "stretch", "border": "pad"}
# timm's default `crop_pct`.
_CROP = 0.875


def is_timms(config: Mapping[str, Any]) -> bool:
    """Whether timm wrote a configuration, or transformers did so for a timm network."""
    return "architecture" in config


def settings(config: Mapping[str, Any], file: Path | None) -> Settings:
    """The settings in a timm configuration.

    The fields are read from `pretrained_cfg`, or, in the older format, from the top level.

    Args:
        config: the file's content.
        file: the file's path, for messages.

    Raises:
        ValueError: a value has the wrong type, is out of range or is not supported.

    References:
        timm 1.0.31, `timm.models.save_for_hf` and `timm.data.transforms_imagenet_eval`.
    """
    nested = config.get("pretrained_cfg")
    told = {**config, **nested} if isinstance(nested, Mapping) else dict(config)
    fields = Fields(told, file)
    arguments = config.get("model_args")
    arguments = dict(arguments) if isinstance(arguments, Mapping) else {}
    if isinstance(config.get("global_pool"), str):
        arguments.setdefault("global_pool", config["global_pool"])
    classes = Fields({**told, **config}, file).number("num_classes", 0, 10**6)
    return Settings(
        "timm",
        Fields(config, file).text("architecture"),
        None if classes is None else int(classes),
        _labels(told, fields),
        _preprocess(fields),
        {name: value for name, value in arguments.items() if not _is_for_training(name)},
    )


def _is_for_training(argument: str) -> bool:
    """Whether an argument of a network has no effect at inference, or is read elsewhere."""
    return "drop" in argument or argument in ("num_classes", "pretrained", "checkpoint_path")


def _labels(told: Mapping[str, Any], fields: Fields) -> tuple[str, ...] | None:
    """The descriptions of the classes, or else their names."""
    names = told.get("label_names")
    if not names:
        return None
    try:
        names = as_labels(names)
    except ValueError as error:
        raise ValueError(f"{fields.file}: label_names: {error}") from None
    descriptions = told.get("label_descriptions")
    if not isinstance(descriptions, Mapping):
        return names
    return tuple(str(descriptions.get(name, name)) for name in names)


def _preprocess(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    size = fields.triple("input_size", 1, 10_000)
    mean, std = fields.triple("mean", -10, 10), fields.triple("std", 1e-6, 10)
    crop = fields.number("crop_pct", 0.01, 1) or _CROP
    mode = fields.choice("crop_mode", tuple(_FITS)) or "center"
    filtered = fields.choice("interpolation", (*FILTERS, "random", ""))
    if size is not None:
        channels, height, width = map(int, size)
        if channels != 3:
            raise fields.wrong("input_size", str(size), "three channels, because inputs are RGB")
        found["size"] = height, width
        # timm resizes to a whole number of pixels.
        found["zoom"] = min(1.0, width / math.floor(width / crop))
        found["fit"] = _FITS[mode]
    if mean is not None:
        found["mean"] = in_bytes(mean)
    if std is not None:
        found["std"] = in_bytes(std)
    if filtered in FILTERS:
        found["resample"] = FILTERS[filtered]
    return found

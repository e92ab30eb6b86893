"""The config.json and preprocessor_config.json that transformers saves."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorecam_jax.models.checkpoints.settings import FILTERS, Fields, Settings, in_bytes
from scorecam_jax.models.labels import as_labels

# Filters by their numbers in Pillow.
_FILTERS = {int(found): found for found in FILTERS.values()}


def settings(
    config: Mapping[str, Any],
    preprocessor: Mapping[str, Any],
    files: tuple[Path | None, Path | None],
) -> Settings:
    """The settings in a folder that transformers saved.

    They do not name the network: the configuration names only a family (`model_type`). The network
    is recognised by its tensors.

    Args:
        config: the content of config.json.
        preprocessor: the content of preprocessor_config.json.
        files: the paths of both, for messages.

    Raises:
        ValueError: a value has the wrong type, is out of range or is not supported.

    References:
        transformers 4.57, the `preprocess` of its image processors.
    """
    labels = config.get("id2label")
    if labels:
        try:
            labels = as_labels(labels)
        except ValueError as error:
            raise ValueError(f"{files[0]}: id2label: {error}") from None
    return Settings(
        "huggingface",
        classes=len(labels) if labels else None,
        labels=None if not labels or _are_numbered(labels) else labels,
        preprocess=_preprocess(Fields(preprocessor, files[1])),
        arguments=config,
    )


def _are_numbered(labels: tuple[str, ...]) -> bool:
    """Whether the names are the placeholders that transformers writes if it knows none."""
    return all(re.fullmatch(r"LABEL_\d+", label) for label in labels)


def _preprocess(fields: Fields) -> dict[str, Any]:
    """The fields of a `Preprocess` that an image processor's configuration states."""
    told = fields.values
    if not told:
        return {}
    found: dict[str, Any] = {"fit": "stretch", "zoom": 1.0}
    resized = _sides(fields, "size")
    cropped = _sides(fields, "crop_size") if told.get("do_center_crop") else None
    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")
    if cropped is not None and resized is not None:
        side, is_shortest = resized
        found["size"] = cropped[0]
        found["fit"] = "crop" if is_shortest else "stretch"
        found["zoom"] = _share(fields, cropped[0], side)
    elif resized is not None:
        found["size"], is_shortest = resized
        if "ConvNext" in kind or "crop_pct" in told:
            # Such a processor crops for inputs below 384 pixels, and stretches for larger ones.
            height = found["size"][0]
            crop = fields.number("crop_pct", 0.01, 1) or 224 / 256
            if height < 384:
                found |= {"fit": "crop", "zoom": min(1.0, height / int(height / crop))}
        elif is_shortest:
            # transformers keeps the whole photograph in its shape; bundled networks take one shape.
            found["fit"] = "crop"
    resample = fields.choice("resample", tuple(_FILTERS))
    if resample is not None:
        found["resample"] = _FILTERS[resample]
    return {**found, **_normalisation(fields)}


def _sides(fields: Fields, key: str) -> tuple[tuple[int, int], bool] | None:
    """The height and width, and whether only the shorter side is meant."""
    value = fields.values.get(key)
    if value is None:
        return None
    sides = value if isinstance(value, Mapping) else {"height": value, "width": value}
    # Older files have one number. It is the shorter side if a crop follows.
    shortest = "shortest_edge" in sides or (
        not isinstance(value, Mapping)
        and key == "size"
        and bool(fields.values.get("do_center_crop"))
    )
    names = ("shortest_edge",) * 2 if "shortest_edge" in sides else ("height", "width")
    found = [sides.get(name) for name in names]
    if not all(isinstance(side, int) and 0 < side <= 10_000 for side in found):
        raise fields.wrong(key, value, "height and width, or shortest_edge, in pixels")
    return (int(found[0] or 0), int(found[1] or 0)), shortest


def _share(fields: Fields, cropped: tuple[int, int], resized: tuple[int, int]) -> float:
    """The fraction of the resized image's sides that the crop keeps."""
    shares = cropped[0] / resized[0], cropped[1] / resized[1]
    if shares[0] != shares[1] or shares[0] > 1:
        raise fields.wrong("crop_size", str(cropped), f"a part of {resized} of the same shape")
    return shares[0]


def _normalisation(fields: Fields) -> dict[str, Any]:
    """The mean and the std for values from 0 to 255."""
    told = fields.values
    factor = fields.number("rescale_factor", 1e-6, 1) or 1 / 255
    if told.get("do_rescale") is False:
        factor = 1.0
    mean, std = fields.triple("image_mean", -256, 256), fields.triple("image_std", 1e-6, 256)
    if told.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    if told.get("include_top") and std is not None:
        # EfficientNet's processor divides twice, so its configurations hold square roots.
        again = fields.triple("image_std", 1e-6, 256) or std
        std = (std[0] * again[0], std[1] * again[1], std[2] * again[2])
    if told.get("rescale_offset") and mean is not None:
        mean = (mean[0] + 1, mean[1] + 1, mean[2] + 1)
    found: dict[str, Any] = {}
    if mean is not None:
        found["mean"] = in_bytes(mean, factor)
    if std is not None:
        found["std"] = in_bytes(std, factor)
    return found

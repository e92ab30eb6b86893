"""Other people's networks, with random weights and small inputs.

Each is made by a function that needs its package. The outputs of a network and of its layers are
read by the framework's own means.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import from_equinox, from_haiku, from_keras, from_linen, scores

KEY = jax.random.key(0)


def package(name: str, module: str | None = None) -> Any:
    """Import a module of a package; skip the test only if the package is not installed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(module or name)


FUNCTIONS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "silu": jax.nn.silu,
    "hard_silu": jax.nn.hard_silu,
    "gelu": jax.nn.gelu,
}


class Wild(NamedTuple):
    """A network of another package.

    Attributes:
        package: the package's name.
        model: the adapter's model, with the default layer.
        plain: images -> class scores, as the package itself computes them.
        read: (images, layer) -> the layer's output, by the framework's own means.
        images: (2, ...), in the network's layout.
        weights: () -> all weights.
        logits: the network's outputs -> the class scores of `plain`.
        score: the network's outputs -> the explained scores: the softmax of `logits`.
        lines: the number of lines that a user writes.
    """

    package: str
    model: Any
    plain: Callable[[Any], Any]
    read: Callable[[Any, str], Any]
    images: np.ndarray
    weights: Callable[[], Any]
    logits: Any = None
    score: Any = None
    lines: int = 1


def pictures(size: int, channels_first: bool = False) -> np.ndarray:
    """Smooth coloured noise, which spreads over the layers of random networks."""
    coarse = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    images = np.asarray(jax.image.resize(coarse, (2, size, size, 3), "linear"))
    return np.moveaxis(images, -1, 1).copy() if channels_first else images


def _with_arguments(apply: Callable[..., Any], weights: Any) -> Callable[[Any], Any]:
    """Compile a network with its weights as arguments: as constants, XLA folds some to NaN."""
    compiled = jax.jit(apply)
    return lambda images: compiled(weights, images)


def _after(activations: Any, function: str) -> Any:
    return FUNCTIONS[function](activations) if function else activations


def _linen(package, module, variables, size, plain, score=None, lines=1, **kwargs):
    def read(images, layer):
        path, _, function = layer.partition(":")
        _, state = module.apply(
            variables, images, capture_intermediates=True, mutable=["intermediates"], **kwargs
        )
        found = state["intermediates"]
        for name in path.split("/"):
            found = found[name]
        found = found["__call__"][0]
        # Hugging Face's outputs and tuples begin with the activations.
        return _after(found if hasattr(found, "shape") else found[0], function)

    return Wild(
        package,
        from_linen(module, variables, None, **kwargs),
        plain,
        read,
        pictures(size),
        lambda: variables,
        score and functools.partial(score.func, lambda outputs: outputs),
        score,
        lines,
    )


def hugging_face(kind: str, config: str, size: int = 48, **settings: Any) -> Callable[[], Wild]:
    """A Flax model of `transformers`, whose settings hold lists and dicts."""

    def make() -> Wild:
        transformers = package("transformers")
        whole = getattr(transformers, kind)(
            getattr(transformers, config)(num_labels=5, **settings), input_shape=(1, size, size, 3)
        )
        variables = whole.params if "params" in whole.params else {"params": whole.params}

        def plain(images: Any) -> Any:
            outputs = whole(np.moveaxis(np.asarray(images), -1, 1))
            return outputs.logits if "logits" in outputs else outputs.pooler_output

        field = "pooler_output" if "VisionModel" in kind else "logits"
        return _linen("transformers", whole.module, variables, size, plain, scores.select(field), 2)

    return make


def flaxmodels(kind: str, size: int = 64) -> Callable[[], Wild]:
    """A Linen network of `flaxmodels`."""

    def make() -> Wild:
        module = getattr(package("flaxmodels"), kind)(
            output="logits", pretrained=None, normalize=False, num_classes=10
        )
        variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, size, size, 3))))(KEY)
        plain = _with_arguments(
            lambda variables, images: module.apply(variables, images, train=False), variables
        )
        return _linen("flaxmodels", module, variables, size, plain, train=False)

    return make


def haiku(kind: str, *arguments: Any, size: int = 64) -> Callable[[], Wild]:
    """A network of `hk.nets`."""

    def make() -> Wild:
        hk = package("haiku")
        transformed = hk.without_apply_rng(
            hk.transform_with_state(
                lambda x, is_training: getattr(hk.nets, kind)(*arguments)(x, is_training)
            )
        )
        images = pictures(size)
        params, state = jax.jit(lambda key: transformed.init(key, images, True))(KEY)

        def read(images: Any, layer: str) -> Any:
            path, _, function = layer.partition(":")
            found = []

            def tap(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
                output = call(*args, **kwargs)
                if context.module.module_name == path and context.method_name == "__call__":
                    found.append(output)
                return output

            with hk.intercept_methods(tap):
                transformed.apply(params, state, images, False)
            return _after(found[-1], function)

        return Wild(
            "dm-haiku",
            from_haiku(transformed, params, None, state=state, is_training=False),
            _with_arguments(
                lambda weights, images: transformed.apply(*weights, images, False)[0],
                (params, state),
            ),
            read,
            images,
            lambda: (params, state),
        )

    return make


def keras_application(kind: str, size: int = 96) -> Callable[[], Wild]:
    """A network of `keras.applications`."""

    def make() -> Wild:
        os.environ["KERAS_BACKEND"] = "jax"
        keras = package("keras")
        settings = {"input_shape": (size, size, 3), "classes": 10, "classifier_activation": None}
        keras.utils.set_random_seed(0)
        network = getattr(keras.applications, kind)(weights=None, **settings)
        return _keras("keras", keras, network, size)

    return make


def keras_hub(kind: str, size: int = 64, **settings: Any) -> Callable[[], Wild]:
    """A classifier over a backbone of `keras_hub`."""

    def make() -> Wild:
        keras, hub = _keras_hub()
        backbone = getattr(hub.models, kind)(image_shape=(size, size, 3), **settings)
        features = backbone.output
        pooled = keras.layers.GlobalAveragePooling2D if len(features.shape) == 4 else None
        pooled = pooled or keras.layers.GlobalAveragePooling1D
        outputs = keras.layers.Dense(5)(pooled()(features))
        return _keras("keras-hub", keras, keras.Model(backbone.input, outputs), size)

    return make


def segformer(size: int = 64) -> Callable[[], Wild]:
    """A segmentation network of `keras_hub`, explained by its mean logits over the image."""

    def mean_logits(outputs: Any) -> Any:
        return outputs.mean((1, 2))

    def score(outputs: Any) -> Any:
        return jax.nn.softmax(mean_logits(outputs))

    def make() -> Wild:
        keras, hub = _keras_hub()
        encoder = hub.models.MiTBackbone(image_shape=(size, size, 3), **_MIT)
        backbone = hub.models.SegFormerBackbone(image_encoder=encoder, projection_filters=16)
        network = hub.models.SegFormerImageSegmenter(backbone=backbone, num_classes=5)
        found = _keras("keras-hub", keras, network, size)
        plain = found.plain
        return found._replace(
            plain=lambda images: mean_logits(plain(images)), logits=mean_logits, score=score
        )

    return make


def _keras_hub() -> tuple[Any, Any]:
    os.environ["KERAS_BACKEND"] = "jax"
    hub = package("keras_hub")
    import keras

    keras.utils.set_random_seed(0)
    return keras, hub


def _keras(package: str, keras: Any, network: Any, size: int) -> Wild:
    def read(images: Any, layer: str) -> Any:
        path, _, function = layer.partition(":")
        operation = next(each for each in network.operations if each.name == path)
        shown = keras.Model(network.inputs, operation.output)
        return _after(shown(images, training=False), function)

    return Wild(
        package,
        from_keras(network),
        lambda images: network(images, training=False),
        read,
        pictures(size),
        lambda: [np.asarray(variable.value) for variable in network.variables],
    )


def equimo(kind: str, size: int = 64, **settings: Any) -> Callable[[], Wild]:
    """An Equinox network of `equimo`, which takes one channels-first image and a key."""

    def make() -> Wild:
        package("equimo")
        first = importlib.metadata.version("equimo").startswith("1.")
        models = package("equimo", "equimo.models" if first else "equimo.vision.models")
        import equinox as eqx

        network = getattr(models, kind)(in_channels=3, num_classes=5, key=KEY, **settings)
        quiet = eqx.nn.inference_mode(network)

        class Recorder(eqx.Module):
            layer: Any
            found: list = eqx.field(static=True)

            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                output = self.layer(*args, **kwargs)
                # Norms are mapped over tokens: each call is for one token.
                jax.debug.callback(self.found.append, output, ordered=False)
                return output

        def read(images: Any, layer: str) -> Any:
            path, _, function = layer.partition(":")

            def where(model: Any) -> Any:
                for name in path.split("/"):
                    model = model[int(name)] if name.isdigit() else getattr(model, name)
                return model

            found: list[Any] = []
            tapped = eqx.tree_at(where, quiet, replace_fn=lambda layer: Recorder(layer, found))
            for image in images:
                tapped(image, key=KEY)
                jax.effects_barrier()
            each = np.stack([np.asarray(output) for output in found])
            if len(each) > len(images):
                each = each.reshape(len(images), -1, each.shape[-1])
            return _after(each, function)

        return Wild(
            "equimo",
            from_equinox(network, None, key=KEY),
            jax.jit(lambda images: jax.vmap(lambda image: quiet(image, key=KEY))(images)),
            read,
            pictures(size, channels_first=True),
            lambda: eqx.filter(network, eqx.is_array),
        )

    return make


_SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 48, "patch_size": 8,
}  # fmt: skip
_MIT = {
    "hidden_dims": [8, 16, 24, 32], "layerwise_depths": [1, 1, 1, 1], "num_layers": 4,
    "layerwise_num_heads": [1, 2, 2, 4], "layerwise_sr_ratios": [8, 4, 2, 1],
    "layerwise_patch_sizes": [7, 3, 3, 3], "layerwise_strides": [4, 2, 2, 2],
    "max_drop_path_rate": 0.0,
}  # fmt: skip
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}

QUICK: dict[str, Callable[[], Wild]] = {
    "transformers ResNet": hugging_face(
        "FlaxResNetForImageClassification", "ResNetConfig", layer_type="basic", **_STAGES
    ),
    "transformers RegNet": hugging_face(
        "FlaxRegNetForImageClassification", "RegNetConfig", groups_width=8, **_STAGES
    ),
    "transformers ViT": hugging_face("FlaxViTForImageClassification", "ViTConfig", **_SMALL),
    "transformers BEiT": hugging_face("FlaxBeitForImageClassification", "BeitConfig", **_SMALL),
    "transformers DINOv2": hugging_face(
        "FlaxDinov2ForImageClassification", "Dinov2Config", **_SMALL
    ),
    "transformers CLIP": hugging_face("FlaxCLIPVisionModel", "CLIPVisionConfig", **_SMALL),
    "flaxmodels ResNet18": flaxmodels("ResNet18"),
    "haiku ResNet18": haiku("ResNet18", 10),
    "equimo ViT": equimo(
        "VisionTransformer", img_size=64, dim=32, patch_size=8, num_heads=[4], depths=[3]
    ),
    "keras MobileNetV3Small": keras_application("MobileNetV3Small"),
    "keras ResNet50V2": keras_application("ResNet50V2"),
    "keras-hub ViT": keras_hub(
        "ViTBackbone", patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    ),
    "keras-hub ResNet": keras_hub(
        "ResNetBackbone", input_conv_filters=[64], input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64], stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2],
        block_type="basic_block",
    ),
    "keras-hub Swin": keras_hub(
        "SwinTransformerBackbone", embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    ),
    "keras-hub MiT": keras_hub("MiTBackbone", **_MIT),
    "keras-hub SegFormer": segformer(),
    "equimo ConvNeXt": equimo("ConvNeXt", depths=[1, 1, 2, 1], dims=[8, 16, 24, 32]),
    "equimo MobileNetv3": equimo(
        "MobileNetv3", last_channels=32, layers_config=[
            (16, 16, 3, 2, True, "relu"), (24, 32, 3, 2, False, "relu"),
            (32, 48, 5, 1, True, "hard_swish"),
        ],
    ),
    "haiku MobileNetV1": haiku("MobileNetV1", (1, 2, 1, 2, 1), (8, 16, 16, 32, 32), 10),
}  # fmt: skip
SLOW: dict[str, Callable[[], Wild]] = {
    "flaxmodels ResNet50": flaxmodels("ResNet50"),
    "haiku ResNet50": haiku("ResNet50", 10),
    **{
        f"keras {kind}": keras_application(kind)
        for kind in (
            "ResNet50", "ConvNeXtTiny", "DenseNet121", "EfficientNetV2B0", "Xception",
            "NASNetMobile",
        )
    },
    "keras InceptionV3 96": keras_application("InceptionV3", 96),
    "keras InceptionV3 128": keras_application("InceptionV3", 128),
}  # fmt: skip

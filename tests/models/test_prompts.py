import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import models
from scorecam_jax.models.networks.clip import ImageTower, TextTower
from scorecam_jax.models.prompts import classes_of, tokenized
from scorecam_jax.study.study import asked_targets

RNG = np.random.default_rng(0)


def test_a_lone_prompt_is_compared_with_neutral_ones():
    assert classes_of(["a cat", "a dog"]) == ("a cat", "a dog")
    assert classes_of(["a cat"]) == ("a cat", *models.NEUTRAL_PROMPTS)
    assert classes_of(["a photo"]) == models.NEUTRAL_PROMPTS


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        ("a cat", "wanted a list of strings"),
        ([], "at least one prompt"),
        (["a cat", " "], "none empty"),
        (["a cat", "a cat"], "two of them are equal"),
    ],
)
def test_prompts_that_cannot_be_classes_are_refused(prompts, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        classes_of(prompts)


def test_outputs_are_scaled_cosines_plus_an_offset():
    tower = ImageTower(8, 1, 2, 4, projection=6, cells=(2, 2), rngs=nnx.Rngs(0))
    inputs = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    embeddings = np.asarray(jax.jit(lambda x: tower(x))(inputs))
    assert embeddings.shape == (2, 6)
    texts = RNG.normal(size=(3, 6)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    tower.compare_with(texts, 7.0, -2.0)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = 7 * (embeddings / lengths) @ texts.T - 2
    np.testing.assert_allclose(jax.jit(lambda x: tower(x))(inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_tokens_after_the_end_count_only_without_a_causal_mask(causal):
    tower = TextTower(
        8, 2, 2, vocabulary=9, length=6, features=4, causal=causal, biased=False,
        activation="gelu", epsilon=1e-5, rngs=nnx.Rngs(0),
    )  # fmt: skip
    embed = jax.jit(tower)
    places = jnp.array([2])
    one = embed(jnp.array([[1, 2, 3, 4, 4]]), places)
    other = embed(jnp.array([[1, 2, 3, 5, 6]]), places)
    assert one.shape == (1, 4)
    assert bool(jnp.array_equal(one, other)) == causal


@pytest.fixture
def folder(tmp_path):
    """A folder with a tokenizer."""
    tokenizers = pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    vocabulary = {"<start>": 0, "<end>": 1, "<pad>": 2, "a": 3, "cat": 4}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_tokens_are_cut_and_padded(folder):
    (folder / "tokenizer_config.json").write_text('{"pad_token": {"content": "<pad>"}}')
    texts = ["a cat", "a a a cat cat"]
    short = tokenized(folder, texts, length=6, padded=False)
    assert short.numbers.tolist() == [[0, 3, 4, 1, 2, 2], [0, 3, 3, 3, 4, 1]]
    assert short.places.tolist() == [3, 5]
    padded = tokenized(folder, texts[:1], length=7, padded=True)
    assert padded.numbers.tolist() == [[0, 3, 4, 1, 2, 2, 2]]
    assert padded.places.tolist() == [6]


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("tokenizer_config.json", "{", r"tokenizer_config\.json is not valid JSON"),
        ("tokenizer_config.json", "[]", r"tokenizer_config\.json holds a list, wanted a JSON ob"),
        ("tokenizer_config.json", '{"pad_token": 5}', "pad_token is 5, wanted a string"),
        ("tokenizer.json", "{", r"tokenizer\.json is not a tokenizer .*EOF.* Copy the file again"),
        ("tokenizer.json", "{}", r"tokenizer\.json is not a tokenizer .* Copy the file again"),
    ],
)
def test_files_of_a_tokenizer_that_are_invalid_are_named(folder, file, text, complaint):
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=complaint):
        tokenized(folder, ["a cat"], length=6, padded=True)


def test_a_folder_without_a_tokenizer_is_told(tmp_path):
    pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json in"):
        tokenized(tmp_path, ["a cat"], length=6, padded=False)


def test_prompts_are_for_networks_with_a_text_tower():
    assert models.takes_prompts("CLIP-ViT-B32")
    assert not models.takes_prompts("resnet50")
    assert not models.takes_prompts("my.module:make")
    with pytest.raises(ValueError, match=r"my.module:make takes no prompts"):
        models.load("my.module:make", prompts=["a cat"])
    with pytest.raises(ValueError, match="prompts or labels, not both"):
        models.load("clip_vit_b32", "weights", labels=__file__, prompts=["a cat"])


def test_an_embedding_has_no_classes_to_choose_from():
    with pytest.raises(ValueError, match=r"an embedding.*--target 'a photo of a cat'"):
        asked_targets("predicted", None, ())

"""Texts as classes: what CLIP and SigLIP make of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

# The files that turn texts into numbers.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

# What a single prompt is compared with: texts that fit nearly every photograph. On its own the
# likeness of an image to a text says little, for all of them are alike.
NEUTRAL = (
    "a photo",
    "a picture of something",
    "a photo of an object",
    "a photo of a place",
    "a blurry photo of the background",
)


class Tokens(NamedTuple):
    """Texts as numbers.

    Attributes:
        numbers: of each token, padded to the same length.
        places: of the token in each row that stands for the text.
    """

    numbers: Int[np.ndarray, "texts tokens"]
    places: Int[np.ndarray, " texts"]


def classes_of(prompts: Sequence[str]) -> tuple[str, ...]:
    """The texts among which an image is to choose: the prompts, or a single one and `NEUTRAL`.

    Raises:
        TypeError: the prompts are not several texts.
        ValueError: there are none, one is empty, or two are equal.
    """
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise TypeError(f"prompts are {prompts!r}, wanted a list of texts: ['a photo of a cat']")
    given = tuple(prompts)
    if not given or not all(prompt.strip() for prompt in given):
        raise ValueError(f"prompts are {given!r}, wanted at least one text, and none empty")
    if len(set(given)) < len(given):
        raise ValueError(f"prompts are {given!r}, and two of them are equal")
    if len(given) > 1:
        return given
    return (*given, *(neutral for neutral in NEUTRAL if neutral != given[0]))


def text_embeddings(
    checkpoint: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    folder: Path,
    texts: Sequence[str],
) -> Float[np.ndarray, "texts features"]:
    """The embeddings of texts, of length 1.

    Args:
        checkpoint: of both towers, as transformers saves it.
        config: what its configuration says.
        folder: where `tokenizer.json` lies.
        texts: any.

    Raises:
        ImportError: the package tokenizers is not installed.
        FileNotFoundError: there is no `tokenizer.json`.
        ValueError: the checkpoint has no text tower, or does not fit it.
    """
    from scorecam_jax.models.checkpoints.clip import text_arguments, text_names
    from scorecam_jax.models.checkpoints.fill import from_checkpoint
    from scorecam_jax.models.networks.clip import TextTower

    found = text_arguments(checkpoint, config)
    tower: Any = from_checkpoint(
        lambda rngs: TextTower(**found, rngs=rngs), text_names(checkpoint), {}
    )
    tokens = tokenized(folder, texts, length=found["length"], padded=not found["causal"])
    if tokens.numbers.max() >= found["vocabulary"]:
        raise ValueError(
            f"{folder / 'tokenizer.json'} knows more tokens than the {found['vocabulary']} of the "
            "checkpoint: it is another network's"
        )
    embeddings = jax.jit(lambda numbers, places: tower(numbers, places))(*map(jnp.asarray, tokens))
    return np.asarray(embeddings / jnp.linalg.norm(embeddings, axis=-1, keepdims=True))


def tokenized(folder: Path, texts: Sequence[str], *, length: int, padded: bool) -> Tokens:
    """Texts as their checkpoint's own tokenizer has them, cut where they are too long.

    Args:
        folder: where `tokenizer.json` lies.
        texts: any.
        length: the most tokens of a text.
        padded: whether texts are padded to that length, and the last token stands for each, as
            in SigLIP. Otherwise it is the last token of the text, as in CLIP, and nothing after
            it has influence.

    Raises:
        ImportError: the package tokenizers is not installed.
        FileNotFoundError: there is no `tokenizer.json`.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(
            "prompts are read by the package tokenizers: pip install 'scorecam_jax[clip]'"
        ) from error
    path = folder / TOKENIZER[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"no tokenizer.json in {folder}, which turns prompts into numbers: it is published "
            "beside the weights, and AutoTokenizer.from_pretrained(...).save_pretrained(folder) "
            "writes it"
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(length)
    tokenizer.no_padding()
    rows = [tokenizer.encode(text).ids for text in texts]
    if not all(rows):
        raise ValueError(f"{path} makes no tokens of {texts[rows.index([])]!r}")
    ends = [len(row) - 1 for row in rows]
    filler = _filler(tokenizer, folder)
    numbers = np.full((len(rows), length if padded else max(ends) + 1), filler, np.int32)
    for row, values in zip(numbers, rows, strict=True):
        row[: len(values)] = values
    return Tokens(numbers, np.array([length - 1] * len(rows) if padded else ends, np.int32))


def _filler(tokenizer: Any, folder: Path) -> int:
    """The number of the token that fills short texts."""
    path = folder / TOKENIZER[1]
    told = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    token = told.get("pad_token")
    name = token.get("content") if isinstance(token, Mapping) else token
    found = None if name is None else tokenizer.token_to_id(name)
    return 1 if found is None else found

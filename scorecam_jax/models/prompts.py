"""Texts as classes: their tokens and embeddings in CLIP and SigLIP."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from scorecam_jax.models.checkpoints.errors import within
from scorecam_jax.models.checkpoints.settings import Fields, json_object

# The files of the tokenizer.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

# Texts that fit nearly every photograph, to compare a single prompt with. The cosine of an image
# and a text means little on its own, because all such cosines are similar.
NEUTRAL = (
    "a photo",
    "a picture of something",
    "a photo of an object",
    "a photo of a place",
    "a blurry photo of the background",
)
"""Descriptions that fit any photograph: the alternatives to a single prompt."""


class Tokens(NamedTuple):
    """Tokenized texts.

    Attributes:
        numbers: the token ids, padded to the same length.
        places: the index, in each row, of the token whose features represent the text.
    """

    numbers: Int[np.ndarray, "texts tokens"]
    places: Int[np.ndarray, " texts"]


def classes_of(prompts: Sequence[str]) -> tuple[str, ...]:
    """The classes of a zero-shot classifier: the prompts, or a single prompt and `NEUTRAL`.

    Raises:
        TypeError: the prompts are not a sequence of strings.
        ValueError: there is no prompt, one is empty, or two are equal.
    """
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise TypeError(f"prompts are {prompts!r}, wanted a list of strings: ['a photo of a cat']")
    given = tuple(prompts)
    if not given or not all(prompt.strip() for prompt in given):
        raise ValueError(f"prompts are {given!r}, wanted at least one prompt, and none empty")
    if len(set(given)) < len(given):
        raise ValueError(f"prompts are {given!r}, but two of them are equal")
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
        checkpoint: the tensors of both towers, as transformers saves them.
        config: the content of config.json.
        folder: the folder with `tokenizer.json`.
        texts: the texts to embed.

    Raises:
        ImportError: the package tokenizers is not installed.
        FileNotFoundError: there is no `tokenizer.json`.
        ValueError: the checkpoint has no text tower or does not fit it; or the tokenizer is
            invalid, does not fit the checkpoint or gives a text no tokens.
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
            f"{folder / 'tokenizer.json'} has more tokens than the {found['vocabulary']} in the "
            "checkpoint: use the tokenizer published with these weights"
        )
    embeddings = jax.jit(lambda numbers, places: tower(numbers, places))(*map(jnp.asarray, tokens))
    return np.asarray(embeddings / jnp.linalg.norm(embeddings, axis=-1, keepdims=True))


def tokenized(folder: Path, texts: Sequence[str], *, length: int, padded: bool) -> Tokens:
    """Tokenize texts with the checkpoint's own tokenizer, and truncate those that are too long.

    Args:
        folder: the folder with `tokenizer.json`.
        texts: the texts to tokenize.
        length: the most tokens per text.
        padded: whether texts are padded to `length` and represented by the last token, as in
            SigLIP. If not, the last token of the text itself represents it, as in CLIP, and the
            tokens after it have no influence.

    Raises:
        ImportError: the package tokenizers is not installed.
        FileNotFoundError: there is no `tokenizer.json`.
        ValueError: a text has no tokens, or `tokenizer.json` or `tokenizer_config.json` is
            invalid.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(
            "prompts require the package tokenizers: pip install 'scorecam_jax[clip]'"
        ) from error
    path = folder / TOKENIZER[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"no tokenizer.json in {folder}, which prompts require: copy it from where the weights "
            "were published, or write it with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.enable_truncation(length)
        tokenizer.no_padding()
        rows = [tokenizer.encode(text).ids for text in texts]
    except Exception as error:  # the package raises errors of no other type
        raise ValueError(
            f"{path} is not a tokenizer that tokenizers reads: {within(str(error), 200)}. Copy the "
            "file again from where the weights were published, or update tokenizers"
        ) from error
    if not all(rows):
        raise ValueError(f"{path} gives no tokens for {texts[rows.index([])]!r}; change the prompt")
    ends = [len(row) - 1 for row in rows]
    filler = _filler(tokenizer, folder)
    numbers = np.full((len(rows), length if padded else max(ends) + 1), filler, np.int32)
    for row, values in zip(numbers, rows, strict=True):
        row[: len(values)] = values
    return Tokens(numbers, np.array([length - 1] * len(rows) if padded else ends, np.int32))


def _filler(tokenizer: Any, folder: Path) -> int:
    """The id of the padding token, 1 if the tokenizer's configuration names none."""
    path = folder / TOKENIZER[1]
    token = json_object(path).get("pad_token") if path.is_file() else None
    token = token.get("content") if isinstance(token, Mapping) else token
    name = Fields({"pad_token": token}, path).text("pad_token")
    found = None if name is None else tokenizer.token_to_id(name)
    return 1 if found is None else found

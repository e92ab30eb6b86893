"""Networks on the Hugging Face Hub, fetched when they are asked for by name.

huggingface_hub does the fetching: its cache, tokens and offline mode are those of every program
that uses it (`HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`).
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scorecam_jax.models.checkpoints import timm
from scorecam_jax.models.checkpoints.folder import CONFIG, INDEXES, PREPROCESSOR, WEIGHTS, Stored
from scorecam_jax.models.checkpoints.read import shards_of

_PREFIX = "hf://"
_FORM = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class Address(NamedTuple):
    """A repository, and a branch, a tag or a commit of it.

    Attributes:
        repository: OWNER/NAME.
        revision: as it was named; None: the usual branch.
        commit: what the revision was when the first file was fetched.
    """

    repository: str
    revision: str | None
    commit: str | None = None

    def __str__(self) -> str:
        return _PREFIX + self.repository + (f"@{self.revision}" if self.revision else "")


def is_address(weights: object) -> bool:
    """Whether weights are named by an address on the Hub, `hf://OWNER/NAME`."""
    return isinstance(weights, str) and weights.startswith(_PREFIX)


def parsed(text: str) -> Address:
    """The parts of an address.

    Raises:
        ValueError: it is not of the form `hf://OWNER/NAME`, with or without `@REVISION`.

    >>> parsed("hf://timm/resnet50.a1_in1k@v2").repository
    'timm/resnet50.a1_in1k'
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text[:200]!r} is no address on the Hugging Face Hub; wanted hf://OWNER/NAME or "
            "hf://OWNER/NAME@REVISION, such as hf://timm/resnet50.a1_in1k"
        )
    return Address(match[1], match[2])


def fetched(text: str, beside: Sequence[str] = ()) -> Stored:
    """Fetch a network's weights and configuration, or find them in the cache.

    Of the repository `model.safetensors`, or the files that `model.safetensors.index.json` names,
    `config.json` and, where it is not timm's, `preprocessor_config.json` are fetched, all of one
    commit, and nothing else. What the Hub says of their contents is checked.

    Args:
        text: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION` with a branch, a tag or a commit.
        beside: further files that are fetched if they are there.

    Raises:
        ImportError: the extra `hub` is not installed.
        ValueError: the address is of another form, there is no such repository, revision or file,
            or a file is not the one that the Hub has.
        OSError: the Hub cannot be reached, or a download broke off.
    """
    address = parsed(text)
    config = _fetch(address, CONFIG)
    if config is not None:
        address = _pinned(address, config)
    preprocessor = None
    if config is None or not timm.is_timms(_content(config)):
        preprocessor = _fetch(address, PREPROCESSOR)
    weights = _fetch(address, WEIGHTS[0])
    weights = weights or _fetch(address, INDEXES[0])
    if weights is None:
        raise ValueError(
            f"{address} has no {WEIGHTS[0]}, and of the Hub no other format is read, for those can "
            "hold programs. Fetch the file yourself and give its path"
        )
    address = _pinned(address, weights)
    for shard in shards_of(weights):
        if _fetch(address, shard.name) is None:
            raise ValueError(f"{address} has no {shard.name}, which its {INDEXES[0]} names")
    for file in beside:
        _fetch(address, file)
    return Stored(weights, config, preprocessor)


def _fetch(address: Address, file: str) -> Path | None:
    """A file of a repository, in the cache; None if it is not in the repository."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ImportError(
            f"{address} is fetched by huggingface_hub, which is not installed: "
            "pip install 'scorecam_jax[hub]'"
        ) from error
    named: dict[str, Any] = {
        "filename": file,
        "revision": address.commit or address.revision,
    }
    try:
        with _silent():
            path = Path(huggingface_hub.hf_hub_download(address.repository, **named))
    except errors.LocalEntryNotFoundError as error:
        known = huggingface_hub.try_to_load_from_cache(address.repository, **named)
        if known is huggingface_hub._CACHED_NO_EXIST:
            return None
        raise OSError(
            f"cannot reach the Hugging Face Hub for {file} of {address}, and it is not in the "
            f"cache: {_reason(error)}. Try again with a connection (HF_HUB_OFFLINE forbids one), "
            "or give a folder on disk"
        ) from error
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{address} asks for consent on its page first, and for a token: visit the page, and "
            "set HF_TOKEN or run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"there is no {address} on the Hugging Face Hub, or it is private: check the name, or "
            "set HF_TOKEN or run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"{address.repository} has no revision {address.revision!r}; name a branch, a tag or a "
            "commit of it, or leave out what follows @"
        ) from error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # the library that transfers, and its errors, differ by version
        raise OSError(
            f"{file} of {address} was not fetched: {_reason(error)}. Try again: what has "
            "arrived is kept"
        ) from error
    _check(path, address)
    return path


def _reason(error: BaseException) -> str:
    """What lies at the root of an error, in its own words if they are few."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}, {text}" if 0 < len(text) < 160 else type(error).__name__


def _check(path: Path, address: Address) -> None:
    """Refuse a file whose hash is not the one by which the Hub knows it.

    The cache calls contents by it: by the SHA-256 of large files, by Git's SHA-1 of small ones.
    """
    wanted = path.resolve().name
    content = path.read_bytes()
    if re.fullmatch("[0-9a-f]{64}", wanted):
        found = hashlib.sha256(content).hexdigest()
    elif re.fullmatch("[0-9a-f]{40}", wanted):
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    else:
        return
    if found != wanted:
        raise ValueError(
            f"{path.name} of {address} is damaged: its hash is {found}, wanted {wanted}. Delete "
            f"{path.resolve()} and try again"
        )


def _pinned(address: Address, file: Path) -> Address:
    """The address at the commit of a file in the cache, so that all files are of one."""
    commit = file.parent.name
    is_commit = re.fullmatch("[0-9a-f]{40}", commit)
    return address._replace(commit=commit) if is_commit else address


def _content(path: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(path.read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep huggingface_hub from drawing bars and logging, and leave its settings as they were."""
    from huggingface_hub import utils

    verbosity, drew = utils.logging.get_verbosity(), not utils.are_progress_bars_disabled()
    utils.logging.set_verbosity(utils.logging.CRITICAL)
    if drew:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if drew:
            utils.enable_progress_bars()

"""Networks on the Hugging Face Hub, fetched only if they are requested by address.

huggingface_hub does the fetching. It shares its cache, tokens and offline mode with every program
that uses it (`HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`).
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scorecam_jax._internal.files import digest
from scorecam_jax.models.checkpoints import timm
from scorecam_jax.models.checkpoints.folder import CONFIG, INDEXES, PREPROCESSOR, WEIGHTS, Stored
from scorecam_jax.models.checkpoints.read import shards_of
from scorecam_jax.models.checkpoints.settings import json_object

_PREFIX = "hf://"
_FORM = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class Address(NamedTuple):
    """A repository on the Hub at a revision.

    Attributes:
        repository: OWNER/NAME.
        revision: the requested branch, tag or commit; None: the default branch.
        commit: the commit of the first file that was fetched, or None.
    """

    repository: str
    revision: str | None
    commit: str | None = None

    def __str__(self) -> str:
        return _PREFIX + self.repository + (f"@{self.revision}" if self.revision else "")


def is_address(weights: object) -> bool:
    """Whether `weights` is an address on the Hub, `hf://OWNER/NAME`."""
    return isinstance(weights, str) and weights.startswith(_PREFIX)


def parsed(text: str) -> Address:
    """Parse an address on the Hub.

    Raises:
        ValueError: the text is neither `hf://OWNER/NAME` nor `hf://OWNER/NAME@REVISION`.

    >>> parsed("hf://timm/resnet50.a1_in1k@v2").repository
    'timm/resnet50.a1_in1k'
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text[:200]!r} is not an address on the Hugging Face Hub; wanted hf://OWNER/NAME or "
            "hf://OWNER/NAME@REVISION, such as hf://timm/resnet50.a1_in1k"
        )
    return Address(match[1], match[2])


def fetched(text: str, beside: Sequence[str] = ()) -> Stored:
    """Fetch a network's weights and configuration, or find them in the cache.

    These files are fetched, and no others: `model.safetensors`, or else the files that
    `model.safetensors.index.json` names; `config.json`; `preprocessor_config.json`, unless the
    configuration is timm's; and those in `beside`. All are from one commit, and each is checked
    against the hash that the Hub states.

    Args:
        text: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION` with a branch, a tag or a commit.
        beside: further files to fetch if the repository has them.

    Raises:
        ImportError: the extra `hub` is not installed.
        ValueError: the address is malformed; there is no such repository, revision or file; or
            a file is damaged.
        OSError: the Hub cannot be reached, or a download was interrupted.
    """
    address = parsed(text)
    config = _fetch(address, CONFIG)
    if config is not None:
        address = _pinned(address, config)
    preprocessor = None
    if config is None or not _is_timms(config):
        preprocessor = _fetch(address, PREPROCESSOR)
    weights = _fetch(address, WEIGHTS[0])
    weights = weights or _fetch(address, INDEXES[0])
    if weights is None:
        raise ValueError(
            f"{address} has no {WEIGHTS[0]}. No other format is read from the Hub, because it "
            "could contain programs. Download the file yourself and give its path"
        )
    address = _pinned(address, weights)
    for shard in shards_of(weights):
        if _fetch(address, shard.name) is None:
            raise ValueError(f"{address} has no {shard.name}, which its {INDEXES[0]} names")
    for file in beside:
        _fetch(address, file)
    return Stored(weights, config, preprocessor)


def _fetch(address: Address, file: str) -> Path | None:
    """Fetch a file into the cache and return its path; None if the repository has no such file."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ImportError(
            f"fetching {address} requires huggingface_hub, which is not installed: "
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
            f"cannot reach the Hugging Face Hub for {file} of {address}, which is not in the "
            f"cache: {_reason(error)}. Try again online (HF_HUB_OFFLINE prevents connections), or "
            "give a folder on disk"
        ) from error
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{address} requires consent on its page, and a token: visit the page, then set "
            "HF_TOKEN or run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"there is no {address} on the Hugging Face Hub, or it is private: check the name, or "
            "set HF_TOKEN or run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"{address.repository} has no revision {address.revision!r}; name one of its branches, "
            "tags or commits, or leave out the part from @ on"
        ) from error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # the transfer library and its errors differ between versions
        raise OSError(
            f"could not fetch {file} of {address}: {_reason(error)}. Try again: what was "
            "downloaded is kept"
        ) from error
    _check(path, address)
    return path


def _reason(error: BaseException) -> str:
    """The root cause of an error, with its message if that is short."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}, {text}" if 0 < len(text) < 160 else type(error).__name__


def _check(path: Path, address: Address) -> None:
    """Check a file against its hash on the Hub; ValueError if they differ.

    The cache names a file's contents by that hash: SHA-256 for large files, Git's SHA-1 for small
    ones.
    """
    wanted = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", wanted):
        found = digest(path)
    elif re.fullmatch("[0-9a-f]{40}", wanted):
        found = digest(path, lambda: hashlib.sha1(b"blob %d\0" % path.stat().st_size))
    else:
        return
    if found != wanted:
        raise ValueError(
            f"{path.name} of {address} is damaged: its hash is {found}, wanted {wanted}. Delete "
            f"{path.resolve()} and try again"
        )


def _pinned(address: Address, file: Path) -> Address:
    """The address at the commit of a cached file, so that all files come from one commit."""
    commit = file.parent.name
    is_commit = re.fullmatch("[0-9a-f]{40}", commit)
    return address._replace(commit=commit) if is_commit else address


def _is_timms(config: Path) -> bool:
    # An invalid configuration is reported once the network is loaded.
    with contextlib.suppress(ValueError):
        return timm.is_timms(json_object(config))
    return False


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress huggingface_hub's progress bars and logging, and restore its settings after."""
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

"""Writing files whole or not at all, and hashing them."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a file's name to an `OSError` that has none, such as that of a full disk.

    Raises:
        OSError: the block raised one.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` once everything is written.

    The new file is written in the same folder and moved over `path` at the end. An exception, a
    full disk or an interruption leaves `path` as it was. A link is followed, and the old file's
    permissions are kept.

    Raises:
        OSError: the file cannot be written.
    """
    target = path.resolve()
    # A short random name, because the target's may be as long as the file system allows.
    beside = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with naming(path), beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all.

    Characters that UTF-8 cannot encode, such as a file name's undecodable bytes, are escaped.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def digest(path: Path, begin: Callable[[], Any] = hashlib.sha256) -> str:
    """The hash of a file's content in hexadecimal, without reading the whole file into memory.

    Args:
        path: the file.
        begin: makes the hash object to which the content is added.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, begin).hexdigest()

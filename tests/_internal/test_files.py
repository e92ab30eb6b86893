import errno
import os
from pathlib import Path

import pytest

from scorecam_jax._internal.files import replacing, write_text
from tests.cli.toy import UNIX


def test_a_file_is_replaced_at_the_end_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, OSError(errno.ENOSPC, "full")])
def test_what_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path, stop):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as file:
            file.write(b"new")
            raise stop

    with pytest.raises((KeyboardInterrupt, MemoryError, OSError)):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_disk_that_is_full_only_when_it_is_synchronized_is_noticed(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"):
        write_text(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


@UNIX
def test_links_are_followed_and_permissions_kept(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_usual_permissions(tmp_path):
    write_text(tmp_path / "a.txt", "new")
    (tmp_path / "b.txt").write_text("new")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path):
    write_text(tmp_path / ("a" * 251 + ".txt"), "long")


def test_what_utf8_cannot_hold_is_escaped(tmp_path):
    name = Path(os.fsdecode(b"\xffcat.jpg"))
    write_text(tmp_path / "a.txt", f"é {name}")
    assert (tmp_path / "a.txt").read_text("utf-8") == "é \\udcffcat.jpg"

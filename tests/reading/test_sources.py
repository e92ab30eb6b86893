import os

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.reading import Note, ReadingError, find, read_picture
from tests.cli.toy import UNIX

SIZE = (4, 3)


@pytest.fixture
def folder(tmp_path):
    """Pictures, two of them deeper, and what is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name in ("b.png", "a.JPG", "more/c.gif", ".hidden.png", ".cache/d.png"):
        Image.new("RGB", SIZE).save(folder / name)
    (folder / "1.2.840.5").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "scan.nii.gz").write_bytes(b"")
    for name in ("notes.txt", "annotations.json", "DICOMDIR", "paper.pdf"):
        (folder / name).write_bytes(b"\0" * 128 + b"DICM" if name == "DICOMDIR" else b"text")
    return folder


def named(listing):
    return [source.name for source in listing.sources]


def test_a_folder_is_searched_and_what_is_not_taken_is_counted(folder):
    found = find([folder], skip=[folder / "annotations.json"])
    assert named(found) == ["1.2.840.5", "a.JPG", "b.png", "more/c.gif", "scan.nii.gz"]
    assert [source.stem for source in found.sources] == ["1.2.840.5", "a", "b", "c", "scan"]
    assert found.remarks == [Note("DICOMDIR and 2 more", "no pictures")]
    assert not found.left_out
    (folder / "DICOMDIR").unlink()
    (folder / "paper.pdf").unlink()
    (folder / "SOURCES.md").write_text("who took them")
    alone = find([folder], skip=[folder / "annotations.json"])
    assert alone.remarks == [Note("notes.txt", "no picture")]


def test_names_tell_folders_apart_and_files_are_called_as_they_are_named(folder):
    more = folder / "more"
    found = find([more, folder / "b.png", folder / "gone.png"])
    names = [f"{more.as_posix()}/c.gif", str(folder / "b.png"), str(folder / "gone.png")]
    assert named(found) == names
    again = find([folder / "b.png", folder])
    assert named(again).count(str(folder / "b.png")) == 1
    twice, not_taken = again.remarks
    assert twice.what == f"{folder.as_posix()}/b.png"
    assert not_taken.why == "no pictures"


def test_a_folder_without_pictures_is_told(tmp_path):
    assert find([tmp_path]).left_out == [Note(str(tmp_path), "there are no photographs in it")]


@pytest.mark.parametrize("name", ["y" * 5000, "a\0b", "gone/there.png"])
def test_names_that_no_file_can_have_are_listed_and_refused(tmp_path, name):
    (source,) = find([tmp_path / name], page="all").sources
    with pytest.raises(ReadingError):
        read_picture(source)


@UNIX
def test_pipes_links_and_devices_are_never_opened(folder):
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    (folder / "broken.png").symlink_to("nowhere")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "loop").symlink_to(folder)
    (folder / "itself.png").symlink_to("itself.png")
    found = find([folder])
    assert len(found.sources) == 5
    assert found.remarks == [Note("DICOMDIR and 9 more", "no pictures")]


def test_pages_are_named_from_one(tmp_path):
    pages = [Image.new("L", SIZE, value) for value in (10, 20, 30)]
    path = tmp_path / "three.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    Image.new("L", SIZE).save(tmp_path / "one.png")
    found = find([path, tmp_path / "one.png"], page="all").sources
    assert [(one.page, one.stem) for one in found] == [
        (1, "three-page1"), (2, "three-page2"), (3, "three-page3"), (1, "one")
    ]  # fmt: skip
    assert [one.name for one in found] == [
        *(f"{path}, page {page}" for page in (1, 2, 3)),
        str(tmp_path / "one.png"),
    ]
    assert find([path]).sources[0][1:] == (1, str(path), "three")
    assert find([path], page=2).sources[0][1:] == (2, f"{path}, page 2", "three")
    assert find([tmp_path / "gone.tif"], page="all").sources[0].page == 1


def test_volumes_are_listed_whole_or_by_their_middle_slice(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 5)), np.eye(4)), path)
    assert find([path]).sources[0][1:] == (3, str(path), "scan")
    assert find([path], takes="volumes").sources[0][1:] == (None, str(path), "scan")
    assert [one.stem for one in find([path], page="all").sources][-1] == "scan-page5"

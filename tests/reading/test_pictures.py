import contextlib
import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from scorecam_jax.reading import ReadingError, Source, check_picture, find, pillow, read_picture
from scorecam_jax.reading.files import stamp_of
from tests.cli.toy import UNIX

RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 4096, (9, 7, 3), np.uint16)
REMARK = "black is 0, white is 4095; change with --window LOW,HIGH"


def drawn(values, low, high):
    return np.rint(255 * ((values - float(low)) / (high - low)).clip(0, 1))


def page(path, number):
    return Source(path, number, path.name, path.stem)


def png(values, colour):
    """A PNG file of 16 bits per channel, each row told by its difference from the left."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    step = 2 * values.shape[-1]
    rows = values.astype(">u2").reshape(len(values), -1).view(np.uint8)
    left = np.pad(rows, ((0, 0), (step, 0)))[:, : rows.shape[1]]
    filtered = np.concatenate([np.ones((len(rows), 1), np.uint8), rows - left], 1)
    header = struct.pack(">IIBBBBB", values.shape[1], len(values), 16, colour, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(filtered.tobytes()))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


class TestDeepColour:
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    @pytest.mark.parametrize("layout", ["contig", "separate"])
    def test_tiff_is_drawn_by_the_depth_of_its_values(
        self, tmp_path, compression, byteorder, layout
    ):
        tifffile = pytest.importorskip("tifffile")
        path = tmp_path / "a.tif"
        values = DEEP if layout == "contig" else DEEP.transpose(2, 0, 1)
        options = {"compression": compression, "byteorder": byteorder, "planarconfig": layout}
        tifffile.imwrite(path, values, photometric="rgb", **options)
        found = read_picture(path)
        np.testing.assert_array_equal(np.asarray(found.image), drawn(DEEP, 0, 4095))
        assert found.remarks == [REMARK]
        named = read_picture(path, window=(100, 900))
        np.testing.assert_array_equal(np.asarray(named.image), drawn(DEEP, 100, 900))

    def test_colours_of_png_are_too(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(png(DEEP, 2))
        np.testing.assert_array_equal(np.asarray(read_picture(path).image), drawn(DEEP, 0, 4095))
        path.write_bytes(png(DEEP * 16, 2))
        whole = np.asarray(read_picture(path).image)
        np.testing.assert_allclose(whole, drawn(DEEP * 16.0, 0, 65535), atol=1)

    def test_transparent_pixels_become_white(self, tmp_path):
        opacity = np.where(RANDOM.random((9, 7, 1)) < 0.5, 0, 65535).astype(np.uint16)
        path = tmp_path / "a.png"
        for values, colour in ((DEEP, 6), (DEEP[..., :1], 4)):
            path.write_bytes(png(np.concatenate([values, opacity], -1), colour))
            expected = np.where(opacity == 0, 255, drawn(values, 0, 4095))
            found = read_picture(path)
            np.testing.assert_array_equal(
                np.asarray(found.image), np.broadcast_to(expected, (9, 7, 3))
            )
            assert found.remarks == [REMARK]

    def test_floats_and_grey_with_opacity_take_tifffile(self, tmp_path):
        tifffile = pytest.importorskip("tifffile")
        path = tmp_path / "a.tif"
        floats = RANDOM.random((9, 7, 3), np.float32)
        tifffile.imwrite(path, floats, photometric="rgb")
        np.testing.assert_array_equal(np.asarray(read_picture(path).image), np.rint(255 * floats))
        check_picture(path)
        pair = np.concatenate([DEEP[..., :1], np.full((9, 7, 1), 65535, np.uint16)], -1)
        options = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
        tifffile.imwrite(path, pair, photometric="minisblack", **options)
        np.testing.assert_array_equal(
            np.asarray(read_picture(path).image)[..., 0], drawn(DEEP[..., 0], 0, 4095)
        )

    def test_pages_of_several_kinds(self, tmp_path):
        tifffile = pytest.importorskip("tifffile")
        path = tmp_path / "a.tif"
        floats = RANDOM.random((9, 7, 3), np.float32)
        with tifffile.TiffWriter(path) as file:
            file.write(DEEP, photometric="rgb")
            file.write(floats, photometric="rgb")
        found = [read_picture(source) for source in find([path], page="all").sources]
        for one, expected in zip(found, (drawn(DEEP, 0, 4095), np.rint(255 * floats)), strict=True):
            np.testing.assert_array_equal(np.asarray(one.image), expected)

    def test_without_tifffile_the_extra_is_named(self, tmp_path, monkeypatch):
        tifffile = pytest.importorskip("tifffile")
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((5, 5, 3), np.float32), photometric="rgb")
        monkeypatch.setitem(sys.modules, "tifffile", None)
        with pytest.raises(ReadingError, match=r"pip install 'scorecam_jax\[pictures\]'"):
            read_picture(path)

    def test_it_is_turned_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        path = tmp_path / "a.png"
        content = png(DEEP, 2)
        data = b"eXIf" + exif.tobytes()[6:]
        chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
        path.write_bytes(content[:33] + chunk + content[33:])
        expected = np.rot90(drawn(DEEP, 0, 4095), -1)
        np.testing.assert_array_equal(np.asarray(read_picture(path).image), expected)


def test_the_page_that_is_asked_for_is_judged_by_its_own_size(tmp_path, monkeypatch):
    path = tmp_path / "slide.tif"
    large, small = Image.new("RGB", (60, 50)), Image.new("RGB", (8, 6), "red")
    large.save(path, save_all=True, append_images=[small])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    found = read_picture(page(path, 2))
    assert found.image.size == (8, 6)
    assert found.image.getpixel((0, 0)) == (255, 0, 0)
    assert found.remarks == ["page 2 of 2 (--page N, --page all)"]
    for read in (check_picture, read_picture):
        with pytest.raises(ReadingError, match="megapixels, the limit; reduce it first"):
            read(path)
        with pytest.raises(ReadingError, match="has 2 pages, and no page 3"):
            read(page(path, 3))


def test_a_moving_picture_is_decoded_once_for_all_its_pages(tmp_path, monkeypatch):
    path = tmp_path / "moving.gif"
    frames = [Image.new("L", (4, 4), 10 * index) for index in range(20)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    steps, seek = [], GifImageFile._seek

    def counted(self, frame, *rest):
        steps.append(frame)
        return seek(self, frame, *rest)

    monkeypatch.setattr(GifImageFile, "_seek", counted)
    sources = find([path], page="all").sources
    values = [read_picture(source).image.getpixel((0, 0))[0] for source in sources]
    assert values == [10 * index for index in range(20)]
    assert len(steps) < 5 * 20


def test_claimed_pages_are_compared_with_the_file(tmp_path):
    content = io.BytesIO()
    frame = Image.new("RGB", (4, 4))
    frame.save(content, "PNG", save_all=True, append_images=[frame.rotate(90), frame])
    damaged = bytearray(content.getvalue())
    at = damaged.index(b"acTL")
    damaged[at + 4 : at + 8] = struct.pack(">I", 10**8)
    checksum = zlib.crc32(damaged[at : at + 12])
    damaged[at + 12 : at + 16] = struct.pack(">I", checksum)
    path = tmp_path / "a.png"
    path.write_bytes(damaged)
    with pytest.raises(ReadingError, match="claims 100000000 pages"):
        read_picture(path)
    assert len(find([path], page="all").sources) == 1


class TestRefused:
    @UNIX
    @pytest.mark.parametrize("name", ["head.jpg", "a.webp", "a.gif", "a.dcm", "a"])
    def test_a_head_and_gigabytes_of_zeros(self, tmp_path, name):
        content = io.BytesIO()
        if name == "a.dcm":
            content.write(b"\0" * 128 + b"DICM")
        else:
            kind = {"a": "PNG", "head.jpg": "JPEG"}.get(name, name[2:].upper())
            noise = RANDOM.integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(
                content, kind, **({"quality": 99} if kind == "JPEG" else {})
            )
        path = tmp_path / name
        for size in (20 * 10**9, 10**9):
            path.write_bytes(content.getvalue()[:132])
            with path.open("r+b") as file:
                file.truncate(size)
            with pytest.raises(ReadingError):
                read_picture(path)

    @UNIX
    def test_zeros_in_place_of_a_scan(self, tmp_path):
        content = io.BytesIO()
        noise = RANDOM.integers(0, 256, (99, 99, 3), np.uint8)
        Image.fromarray(noise).save(content, "JPEG", progressive=True)
        path = tmp_path / "a.jpg"
        path.write_bytes(content.getvalue()[:5000])
        with path.open("r+b") as file:
            file.truncate(10**9)
        with pytest.raises(ReadingError):
            read_picture(path)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
    def test_truncated_files(self, tmp_path, kind):
        content = io.BytesIO()
        Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), np.uint8)).save(content, kind)
        path = tmp_path / "a"
        for share in (0.1, 0.5, 0.9):
            path.write_bytes(content.getvalue()[: int(share * content.tell())])
            with pytest.raises(ReadingError), contextlib.redirect_stderr(None):
                read_picture(path)

    def test_what_is_no_file(self, tmp_path):
        with pytest.raises(ReadingError, match=r"^no such file$"):
            read_picture(tmp_path / "gone.png")
        with pytest.raises(ReadingError, match="a folder, not a photograph; name the files in it"):
            read_picture(tmp_path)
        (tmp_path / "empty.png").touch()
        with pytest.raises(ReadingError, match="not an image in a known format"):
            check_picture(tmp_path / "empty.png")

    def test_too_little_memory(self, tmp_path, monkeypatch):
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

        def scarce(image, window=None):
            raise MemoryError

        monkeypatch.setattr("scorecam_jax.reading.pictures.as_rgb", scarce)
        with pytest.raises(ReadingError, match="too large for this machine's memory"):
            read_picture(tmp_path / "a.png")


def test_heic_is_read_or_its_extra_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(12))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(ReadingError, match=r"pip install 'scorecam_jax\[pictures\]'"):
            read_picture(path)
    pillow_heif = pytest.importorskip("pillow_heif")
    ramp = np.indices((64, 80)).sum(0)[..., None] * np.array([1, 1, 0])
    pillow_heif.from_pillow(Image.fromarray(ramp.astype(np.uint8))).save(path, quality=90)
    np.testing.assert_allclose(np.asarray(read_picture(path).image), ramp, atol=4)


def test_filters_of_warnings_are_left_as_they_were(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read_picture, [tmp_path / "a.png"] * 40))
    assert list(warnings.filters) == before


def test_a_changed_file_is_another(tmp_path):
    path = tmp_path / "a.gif"
    for count in (2, 3):
        frames = [Image.new("L", (4, 4), 10 * index) for index in range(count)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert pillow.count_pages(stamp_of(path)) == count

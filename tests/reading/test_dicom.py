import sys

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.reading import ReadingError, dicom, find, read_picture, read_volume

pydicom = pytest.importorskip("pydicom")

VALUES = np.arange(12, dtype=np.uint16).reshape(3, 4) * 200


def write(path, pixels, **header):
    """An uncompressed DICOM file of (frames,) rows, columns (, 3)."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.SOPClassUID = pydicom.uid.CTImageStorage
    colours = 3 if pixels.shape[-1] == 3 else 1
    data.SamplesPerPixel = colours
    data.Rows, data.Columns = pixels.shape[-3:-1] if colours == 3 else pixels.shape[-2:]
    data.PhotometricInterpretation = "RGB" if colours == 3 else "MONOCHROME2"
    if colours == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    data.PixelData = pixels.tobytes()
    for name, value in header.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def grey(image):
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def shown(values, low, high):
    return np.rint(255 * np.clip((values - low) / (high - low), 0, 1))


def test_values_are_rescaled_and_shown_through_the_files_window(tmp_path):
    path = write(
        tmp_path / "ct.dcm", VALUES, RescaleSlope=2, RescaleIntercept=-1024,
        WindowCenter=[40, 300], WindowWidth=[400, 2000],
    )  # fmt: skip
    found = models.read_dicom(path)
    # Level 40 and width 400, as the standard's C.11.2.1.2.1 defines them.
    assert found.window == (-160, 239)
    hounsfield = VALUES * 2.0 - 1024
    np.testing.assert_array_equal(grey(found.image), shown(hounsfield, -160, 239))
    np.testing.assert_array_equal(
        grey(found.image), np.rint(np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1) * 255)
    )
    own = models.read_dicom(path, window=(0, 1000))
    np.testing.assert_array_equal(grey(own.image), shown(hounsfield, 0, 1000))


def test_without_a_window_the_range_is_shown(tmp_path):
    signed = VALUES.astype(np.int16) - 600
    found = models.read_dicom(write(tmp_path / "a.dcm", signed))
    assert found.window == (-600, 1600)
    np.testing.assert_array_equal(grey(found.image), shown(signed, -600, 1600))
    constant = models.read_dicom(write(tmp_path / "b.dcm", np.full((2, 2), 7, np.uint16)))
    assert not grey(constant.image).any()


def test_small_values_are_bright_in_monochrome1(tmp_path):
    path = write(tmp_path / "a.dcm", VALUES, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(
        grey(models.read_dicom(path).image), np.rint(255 * (1 - VALUES / 2200.0))
    )


def test_frames_and_colours(tmp_path):
    frames = np.stack([VALUES, VALUES[::-1]])
    path = write(tmp_path / "a.dcm", frames, NumberOfFrames=2)
    assert models.read_dicom(path).frames == dicom.frames_of(path) == 2
    np.testing.assert_array_equal(
        grey(models.read_dicom(path, frame=2).image), shown(VALUES[::-1], 0, 2200)
    )
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    found = models.read_dicom(write(tmp_path / "b.dcm", colours))
    assert found.window is None
    np.testing.assert_array_equal(np.asarray(found.image), colours)
    with pytest.raises(ValueError, match="has 2 frames, and no frame 3"):
        models.read_dicom(path, frame=3)


def test_what_cannot_be_shown_is_refused(tmp_path):
    Image.new("L", (200, 200)).save(tmp_path / "a.png")
    assert not dicom.is_dicom(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is not a DICOM file"):
        models.read_dicom(tmp_path / "a.png")
    path = write(tmp_path / "b.dcm", VALUES)
    assert dicom.is_dicom(path)
    with pytest.raises(ValueError, match="wanted the lower value first"):
        models.read_dicom(path, window=(5, 5))
    report = pydicom.dcmread(path)
    del report.Rows
    report.save_as(tmp_path / "c.dcm")
    with pytest.raises(ValueError, match="contains no image"):
        models.read_dicom(tmp_path / "c.dcm")


def item(**values):
    """A sequence of one item."""
    found = pydicom.Dataset()
    for name, value in values.items():
        setattr(found, name, value)
    return pydicom.Sequence([found])


def drawn(path, frame=1):
    return grey(models.read_dicom(path, frame=frame).image)


def test_functional_groups_rescale_all_frames_or_each(tmp_path):
    frames = np.stack([VALUES, VALUES])
    shared = item(
        PixelValueTransformationSequence=item(RescaleSlope=2, RescaleIntercept=-1000),
        FrameVOILUTSequence=item(WindowCenter=40, WindowWidth=80),
    )
    path = write(
        tmp_path / "a.dcm", frames, NumberOfFrames=2, SharedFunctionalGroupsSequence=shared
    )
    assert models.read_dicom(path).window == (0, 79)
    np.testing.assert_array_equal(drawn(path, 2), shown(2.0 * VALUES - 1000, 0, 79))
    single = pydicom.Sequence(
        [
            item(
                PixelValueTransformationSequence=item(RescaleSlope=slope, RescaleIntercept=0),
                FrameVOILUTSequence=item(WindowCenter=500 * slope, WindowWidth=1001),
            )[0]
            for slope in (1, 3)
        ]
    )
    path = write(
        tmp_path / "b.dcm", frames, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=single
    )
    # The first frame's window is that of all.
    assert models.read_dicom(path, frame=2).window == (-0.5, 999.5)
    np.testing.assert_array_equal(drawn(path, 2), shown(3.0 * VALUES, -0.5, 999.5))


def test_frames_without_a_window_share_the_range_of_all(tmp_path):
    frames = np.stack([VALUES // 2, VALUES])
    path = write(tmp_path / "a.dcm", frames, NumberOfFrames=2)
    assert models.read_dicom(path, frame=1).window == (0, 2200)
    np.testing.assert_array_equal(drawn(path, 1), shown(VALUES // 2, 0, 2200))


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_functions_of_a_window(tmp_path, function):
    path = write(
        tmp_path / "a.dcm", VALUES, WindowCenter=900, WindowWidth=600, VOILUTFunction=function
    )
    expected = {  # C.11.2.1.3
        "LINEAR_EXACT": np.clip((VALUES - 900.0) / 600 + 0.5, 0, 1),
        "SIGMOID": 1 / (1 + np.exp(-4 * (VALUES - 900.0) / 600)),
    }[function]
    np.testing.assert_array_equal(drawn(path), np.rint(255 * expected))
    assert models.read_dicom(path).window == (600, 1200)


def test_lookup_tables(tmp_path):
    squares = (np.arange(4096.0) ** 2 / 4095**2 * 65535).astype("<u2")
    table = item(LUTDescriptor=[4096, 0, 16], LUTData=squares.tobytes())
    path = write(tmp_path / "a.dcm", VALUES, VOILUTSequence=table, WindowCenter=9, WindowWidth=9)
    np.testing.assert_array_equal(drawn(path), np.rint(255 * (squares[VALUES] / 65535)))
    found = models.read_dicom(path)
    assert found.window is None
    assert found.remarks == [
        "drawn through the file's lookup table; override with --window LOW,HIGH"
    ]
    named = models.read_dicom(path, window=(0, 1000))
    np.testing.assert_array_equal(grey(named.image), shown(VALUES, 0, 1000))
    values = item(LUTDescriptor=[4096, 0, 16], LUTData=squares.tobytes(), ModalityLUTType="US")
    path = write(tmp_path / "b.dcm", VALUES, ModalityLUTSequence=values)
    top = int(squares[2200])
    np.testing.assert_array_equal(drawn(path), shown(squares[VALUES].astype(float), 0, top))


@pytest.mark.parametrize("largest", [255, 65535])
def test_palettes(tmp_path, largest):
    index = np.arange(12, dtype=np.uint8).reshape(3, 4)
    table = np.random.default_rng(0).integers(0, largest + 1, (3, 256)).astype("<u2")
    table[:, 200] = largest
    tags = {}
    for name, values in zip(("Red", "Green", "Blue"), table, strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = values.tobytes()
    path = write(tmp_path / "a.dcm", index, PhotometricInterpretation="PALETTE COLOR", **tags)
    expected = np.moveaxis(np.rint(table[:, index] * (255 / largest)), 0, -1)
    np.testing.assert_array_equal(np.asarray(models.read_dicom(path).image), expected)


def test_padding_is_left_out_of_the_range(tmp_path):
    values = VALUES.astype(np.int16) + 100
    values[0, :2] = -2000, -1990
    path = write(tmp_path / "a.dcm", values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980)
    assert models.read_dicom(path).window == (500, 2300)


def test_colours_of_more_than_8_bits(tmp_path):
    colours = np.random.default_rng(0).integers(0, 4096, (3, 4, 3), np.uint16)
    path = write(tmp_path / "a.dcm", colours, BitsStored=12, HighBit=11)
    found = models.read_dicom(path)
    assert found.window == (0, 4095)
    np.testing.assert_array_equal(np.asarray(found.image), shown(colours, 0, 4095))


def test_luminance_and_chrominance_become_colours(tmp_path):
    colours = np.random.default_rng(0).integers(60, 180, (3, 4, 3), np.uint8)
    path = write(tmp_path / "a.dcm", colours, PhotometricInterpretation="YBR_FULL")
    luminance, blue, red = np.moveaxis(colours.astype(float), -1, 0)
    expected = [  # C.7.6.3.1.2
        luminance + 1.402 * (red - 128),
        luminance - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        luminance + 1.772 * (blue - 128),
    ]
    expected = np.clip(np.stack(expected, -1), 0, 255)
    np.testing.assert_allclose(np.asarray(models.read_dicom(path).image), expected, atol=1)


@pytest.mark.parametrize(
    ("tags", "size"),
    [
        ({"PixelSpacing": [1, 0.5]}, (4, 6)),
        ({"PixelSpacing": [0.5, 0.5]}, (4, 3)),
        ({"PixelAspectRatio": [1, 2]}, (8, 3)),
        ({"PixelSpacing": [0, 1]}, (4, 3)),
        ({"PixelSpacing": ["1e9", 1]}, (4, 3)),
    ],
)
def test_pixels_become_square(tmp_path, tags, size):
    found = models.read_dicom(write(tmp_path / "a.dcm", VALUES, **tags))
    assert found.image.size == size
    told = found.remarks[1:]
    assert bool(told) == (size != (4, 3) or tags["PixelSpacing"][0] != 0.5)
    assert all("pixels" in text for text in told)


def test_a_series_of_frames_is_a_volume(tmp_path):
    frames = np.stack([VALUES, VALUES + 1, VALUES + 2])
    path = write(
        tmp_path / "a.dcm", frames, NumberOfFrames=3, RescaleSlope=2, RescaleIntercept=-1000,
        PixelSpacing=[0.5, 0.25], SliceThickness=4,
    )  # fmt: skip
    found = read_volume(path)
    np.testing.assert_array_equal(found.values, 2.0 * frames - 1000)
    assert found.spacing == (4, 0.5, 0.25)
    with pytest.raises(ReadingError, match="has one frame"):
        read_volume(write(tmp_path / "b.dcm", VALUES))


class TestClaims:
    def test_are_compared_with_the_data(self, tmp_path):
        path = write(tmp_path / "a.dcm", VALUES, NumberOfFrames=10**8)
        assert path.stat().st_size < 1000
        with pytest.raises(ReadingError, match="claims 100000000 frames of 4 x 3 pixels, which"):
            read_picture(path)
        assert len(find([path], page="all").sources) == 1
        path = write(tmp_path / "b.dcm", VALUES, Rows=60000, Columns=60000)
        with pytest.raises(ReadingError, match="megapixels, the limit"):
            read_picture(path)

    @pytest.mark.parametrize("left", [5, -20])
    def test_a_truncated_file_is_told(self, tmp_path, left):
        path = write(tmp_path / "a.dcm", VALUES)
        content = path.read_bytes()
        path.write_bytes(content[: -VALUES.nbytes + left])
        with pytest.raises(ReadingError, match="truncated"):
            read_picture(path)

    def test_what_is_deflated_is_inflated_within_a_bound(self, tmp_path, monkeypatch):
        path = write(tmp_path / "a.dcm", VALUES)
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data.save_as(tmp_path / "b.dcm")
        np.testing.assert_array_equal(drawn(tmp_path / "b.dcm"), shown(VALUES, 0, 2200))
        data.add_new(0x00091010, "OB", bytes(10**6))
        data.save_as(tmp_path / "c.dcm")
        assert (tmp_path / "c.dcm").stat().st_size < 5000
        monkeypatch.setattr(dicom, "_MOST_INFLATED", 10**5)
        with pytest.raises(ReadingError, match="inflates to more than"):
            read_picture(tmp_path / "c.dcm")

    def test_nothing_is_told_on_standard_error(self, tmp_path, capfd):
        path = write(tmp_path / "a.dcm", VALUES)
        content = bytearray(path.read_bytes())
        at = content.index(b"US", 400)
        content[at : at + 2] = b"XX"
        path.write_bytes(content)
        with pytest.raises(ReadingError):
            read_picture(path)
        assert capfd.readouterr() == ("", "")


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", VALUES)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ReadingError, match=r"pip install 'scorecam_jax\[medical\]'"):
        read_picture(path)

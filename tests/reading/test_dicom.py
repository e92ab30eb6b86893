import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.reading import dicom

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
    with pytest.raises(ValueError, match="holds no image"):
        models.read_dicom(tmp_path / "c.dcm")

import gzip

import numpy as np
import pytest

from scorecam_jax.reading import ReadingError, Source, find, read_picture, read_volume
from scorecam_jax.visualize import write_nifti

nibabel = pytest.importorskip("nibabel")

# Of (right, front, top): each voxel tells its own place.
SHAPE = (3, 4, 5)
X, Y, Z = np.indices(SHAPE)
VALUES = (100 * X + 10 * Y + Z).astype(np.int16)


def write(path, values=VALUES, affine=None):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def test_a_slice_is_axial_with_the_face_up_and_the_patients_right_at_the_left(tmp_path):
    path = write(tmp_path / "a.nii.gz")
    found = read_picture(Source(path, 2, "a", "a"), window=(0, 255))
    # The first row is the front (y = 3), the first column the patient's right (x = 2).
    expected = [[100 * x + 10 * y + 1 for x in (2, 1, 0)] for y in (3, 2, 1, 0)]
    np.testing.assert_array_equal(np.asarray(found.image)[..., 0], np.minimum(expected, 255))
    assert found.remarks == [
        "page 2 of 5 (--page N, --page all)",
        "black is 0, white is 255",
    ]


def test_the_way_in_which_a_file_is_stored_does_not_matter(tmp_path):
    plain = read_volume(write(tmp_path / "a.nii"))
    turned = np.array([[0, 0, -1, 2], [1, 0, 0, 0], [0, -1, 0, 4], [0, 0, 0, 1.0]])
    stored = VALUES.transpose(1, 2, 0)[:, ::-1, ::-1]
    other = read_volume(write(tmp_path / "b.nii", stored, turned))
    np.testing.assert_array_equal(other.values, plain.values)
    np.testing.assert_allclose(other.affine, plain.affine)
    assert plain.values.shape == (5, 4, 3)
    assert plain.values[4, 0, 0] == 234


def test_slices_share_one_window_and_the_middle_one_is_usual(tmp_path):
    path = write(tmp_path / "a.nii", VALUES * 4)
    found = [read_picture(source) for source in find([path], page="all").sources]
    assert {one.remarks[-1] for one in found} == {
        "black is 0, white is 1023; change with --window LOW,HIGH"
    }
    usual = read_picture(path)
    assert usual.remarks[0] == "page 3 of 5 (--page N, --page all)"
    np.testing.assert_array_equal(np.asarray(usual.image), np.asarray(found[2].image))
    scan = read_picture(write(tmp_path / "ct.nii", VALUES - 1000))
    assert scan.remarks[-1].startswith("black is -1000, white is -766")


def test_voxels_that_are_not_square_are_made_so(tmp_path):
    found = read_picture(write(tmp_path / "a.nii", affine=np.diag([1, 3, 5, 1.0])))
    assert found.image.size == (3, 12)
    assert (
        "its pixels are 3 x 1 (height x width): resized from 3 x 4 to 3 x 12" in (found.remarks[-1])
    )


def test_a_heatmap_of_a_volume_lies_over_it(tmp_path):
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 3.0, -40], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    path = write(tmp_path / "a.nii.gz", affine=affine)
    volume = read_volume(path)
    assert volume.spacing == pytest.approx((1.5, 3, 2))
    write_nifti(tmp_path / "b.nii.gz", volume.values, volume.affine)
    before, after = (nibabel.load(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    inverse = np.linalg.inv(after.affine)
    for place in np.ndindex(SHAPE):
        at = (inverse @ before.affine @ [*place, 1])[:3].round().astype(int)
        assert after.dataobj[tuple(at)] == VALUES[place]


def test_further_volumes_are_told(tmp_path):
    path = write(tmp_path / "a.nii", np.stack([VALUES, -VALUES], -1))
    found = read_volume(path)
    assert found.values.shape == (5, 4, 3)
    assert found.values.max() == 234
    assert found.remarks == ["the first of 2 volumes is read"]


def test_what_cannot_be_read_is_refused(tmp_path):
    content = bytearray(write(tmp_path / "a.nii").read_bytes())
    (tmp_path / "cut.nii").write_bytes(content[:-20])
    with pytest.raises(ReadingError, match="claims 3 x 4 x 5 voxels, 120 bytes"):
        read_picture(tmp_path / "cut.nii")
    content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ReadingError, match="do not fit in its"):
        read_volume(tmp_path / "bomb.nii.gz")
    (tmp_path / "text.nii").write_text("nothing of the kind")
    with pytest.raises(ReadingError, match="not a NIfTI file"):
        read_picture(tmp_path / "text.nii")
    flat = write(tmp_path / "flat.nii", np.zeros((3, 3), np.int16))
    with pytest.raises(ReadingError, match="wanted a volume of three axes"):
        read_picture(flat)
    nan = write(tmp_path / "nan.nii", np.full((2, 2, 2), np.nan, np.float32))
    with pytest.raises(ReadingError, match="NaN or infinity"):
        read_volume(nan)


def test_arrays_of_three_axes_are_volumes(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    found = read_volume(tmp_path / "a.npy")
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.affine is None
    np.save(tmp_path / "b.npy", VALUES[0])
    with pytest.raises(ReadingError, match="wanted numbers on three axes"):
        read_volume(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(ReadingError, match="cannot be read"):
        read_volume(tmp_path / "c.npy")
    with pytest.raises(ReadingError, match="an array, not a picture"):
        read_picture(tmp_path / "a.npy")

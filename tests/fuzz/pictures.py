"""Mutate and read small files of every format: python -m tests.fuzz.pictures COUNT SEED."""

import gzip
import io
import json
import random
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import tifffile
from PIL import Image

from benchmarks.memory import peak_memory
from scorecam_jax.reading import ReadingError, check_picture, find, read_picture, read_volume

VALUES = np.random.default_rng(0).integers(0, 4096, (12, 10), np.uint16)
COLOURS = np.random.default_rng(1).integers(0, 256, (12, 10, 3), np.uint8)
EXTREMES = (b"\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")


def dicom(deflated=False, frames=1, syntax=pydicom.uid.ExplicitVRLittleEndian, **header):
    """A DICOM file with many of the elements that are read."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = (
        pydicom.uid.DeflatedExplicitVRLittleEndian if deflated else syntax
    )
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = VALUES.shape
    data.NumberOfFrames = frames
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelSpacing, data.PixelPaddingValue = [0.5, 1], 0
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    groups, window = pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = 40, 400
    groups.FrameVOILUTSequence = pydicom.Sequence([window])
    data.SharedFunctionalGroupsSequence = pydicom.Sequence([groups])
    data.PixelData = VALUES.tobytes() * frames
    for name, value in header.items():
        setattr(data, name, value)
    content = io.BytesIO()
    pydicom.dcmwrite(content, data, enforce_file_format=True)
    return content.getvalue()


def palette():
    """A DICOM file whose values are indices into a palette."""
    tables = {}
    for name in ("Red", "Green", "Blue"):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = bytes(range(256)) * 2
    pixels = COLOURS[..., 0].tobytes()
    deep = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    return dicom(PhotometricInterpretation="PALETTE COLOR", PixelData=pixels, **deep, **tables)


def lookup():
    """A DICOM file with a lookup table and no window."""
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], np.arange(4096, dtype="<u2").tobytes()
    return dicom(VOILUTSequence=pydicom.Sequence([table]))


def saved(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def nifti(shape=(6, 5, 4), kind=np.int16):
    volume = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    return nibabel.Nifti1Image(volume, np.diag([1, 2, 3, 1.0])).to_bytes()


def tiff(values, **options):
    content = io.BytesIO()
    tifffile.imwrite(content, values, **options)
    return content.getvalue()


def seeds():
    """Files by suffix."""
    colour = Image.fromarray(COLOURS)
    turned = Image.Exif()
    turned[0x0112] = 6
    more = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    deep = COLOURS.astype(np.uint16) * 16
    rle = pydicom.uid.RLELossless
    compressed = pydicom.dcmread(io.BytesIO(dicom(frames=2)))
    compressed.compress(rle)
    held = io.BytesIO()
    compressed.save_as(held)
    return {
        ".dcm": [dicom(), dicom(frames=3), palette(), lookup(), held.getvalue()],
        ".deflated.dcm": [dicom(deflated=True)],
        ".tif": [
            saved(colour, "TIFF", **more),
            saved(colour, "TIFF", compression="tiff_lzw"),
            saved(Image.fromarray(VALUES), "TIFF"),
            tiff(deep, photometric="rgb"),
            tiff(deep, photometric="rgb", compression="zlib"),
            tiff(deep.astype(np.float32), photometric="rgb", tile=(16, 16)),
        ],
        ".png": [
            saved(colour, "PNG"),
            saved(colour, "PNG", **more),
            saved(Image.fromarray(VALUES), "PNG"),
            saved(colour.convert("P"), "PNG", transparency=3),
        ],
        ".jpg": [
            saved(colour, "JPEG", exif=turned),
            saved(colour.convert("CMYK"), "JPEG", progressive=True),
        ],
        ".gif": [saved(colour, "GIF", **more)],
        ".webp": [saved(colour, "WEBP", **more)],
        ".nii": [nifti(), nifti((6, 5, 4, 2), np.float32)],
        ".nii.gz": [gzip.compress(nifti())],
    }


def mutate(content, suffix, rng):
    """Damage a file at random."""
    if suffix == ".nii.gz" and rng.random() < 0.7:
        return gzip.compress(mutate(gzip.decompress(content), ".nii", rng), 1)
    if suffix == ".deflated.dcm" and rng.random() < 0.7:
        at = 132 + 12 + pydicom.dcmread(io.BytesIO(content)).file_meta[0x00020000].value
        inner = mutate(zlib.decompress(content[at:], -15), ".dcm", rng)
        return content[:at] + zlib.compress(inner, wbits=-15)
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        at, how = rng.randrange(len(found)), rng.randrange(6)
        if how == 0:
            found[at] = rng.randrange(256)
        elif how == 1:
            found[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            extreme = rng.choice(EXTREMES)
            found[at : at + len(extreme)] = extreme
        elif how == 3:
            del found[at:][: rng.randrange(1, 64)]
        elif how == 4:
            del found[at : at + rng.randrange(1, 16)]
        elif how == 5:
            start = rng.randrange(len(found))
            found[at:at] = found[start : start + rng.randrange(1, 64)]
        if not found:
            break
    if rng.random() < 0.15:
        del found[rng.randrange(len(found) + 1) :]
    if suffix == ".png" and rng.random() < 0.8:
        return with_checksums(bytes(found))
    return bytes(found)


def with_checksums(content):
    """Correct the checksums of a damaged PNG file, so that they do not reveal the damage."""
    found, at = bytearray(content), 8
    while at + 12 <= len(found):
        (length,) = struct.unpack(">I", found[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(found):
            break
        found[end : end + 4] = struct.pack(">I", zlib.crc32(found[at + 4 : end]))
        at = end + 4
    return bytes(found)


def read_all(path):
    """Read a file in every way; a refusal is fine."""
    for source in find([path], page="all").sources[:4]:
        for read in (check_picture, read_picture, read_volume):
            try:
                read(source)
            except ReadingError:
                continue
    find([path], takes="volumes")


def main(count, seed):
    """Read `count` files; print the failures, the slowest case and the peak memory."""
    warnings.simplefilter("error")
    rng = random.Random(seed)
    files = seeds()
    failures, slowest = [], (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        for case in range(count):
            suffix = list(files)[case % len(files)]
            content = mutate(rng.choice(files[suffix]), suffix, rng)
            path = Path(folder, f"{case}{suffix}")
            path.write_bytes(content)
            began = time.process_time()
            try:
                read_all(path)
            except Exception:
                failures.append([path.name, content.hex(), traceback.format_exc()])
            seconds = time.process_time() - began
            slowest = max(slowest, (seconds, f"{path.name} {content.hex()}"))
            path.unlink()
    memory = peak_memory()
    print(json.dumps({"failures": failures, "slowest": slowest, "memory": memory}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

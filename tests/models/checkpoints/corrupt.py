"""Read corrupted checkpoints, in a separate process that may allocate 2 GB more than at its start.

    python -m tests.models.checkpoints.corrupt COUNT

It corrupts COUNT files of each format, and prints each file's seed first. If a file ends the
process, its seed is the last one printed.
"""

import collections
import contextlib
import json
import pickletools
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.memory import peak_memory
from scorecam_jax.models import load_checkpoint
from tests.models.checkpoints.files import (
    Global,
    dumps,
    replace,
    tensor,
    write_legacy,
    write_safetensors,
    write_zip,
)

MOST_SECONDS = 1
MOST_BYTES = 2 << 30
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
EXTREMES = (0, 1, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)


def checkpoint():
    values = {"0": np.arange(12, dtype="f4"), "1": np.ones(4, bool), "2": np.arange(3)}
    state = collections.OrderedDict(
        {
            "conv.weight": Global(
                "torch._utils",
                "_rebuild_parameter",
                tensor("FloatStorage", "0", 12, (3, 2, 2), (4, 2, 1)),
                True,
                collections.OrderedDict(),
            ),
            "conv.bias": tensor("FloatStorage", "0", 12, (3,), (0,), offset=2),
            "mask": tensor("BoolStorage", "1", 4, (4,), (1,)),
            "norm.num_batches_tracked": tensor("LongStorage", "2", 3, (), ()),
        }
    )
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    root = {"epoch": 7, "optimizer": {"state": {0: {"step": 0.5}}}, "state_dict": state}
    return root, values


def corrupt(data, rng):
    """Change bytes, numbers or their order at random, or insert instructions of a pickle."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        place = rng.randrange(len(data) + 1)
        length = rng.choice([1, 1, 2, 4, 8, rng.randrange(1, len(data) + 2)])
        end = place + length
        match rng.randrange(9):
            case 0:
                data[place : place + 1] = rng.randbytes(1)
            case 1:
                data[place:end] = bytes(
                    byte ^ 1 << rng.randrange(8) for byte in data[place : place + 1]
                )
            case 2:
                width = rng.choice([1, 2, 4, 8])
                number = rng.choice(EXTREMES) % 256**width
                data[place : place + width] = number.to_bytes(width, "little")
            case 3:
                del data[place:end]
            case 4:
                data[place:place] = data[place:end] * rng.choice([1, 1, 2, 1000])
            case 5:
                other = rng.randrange(len(data) + 1)
                data[place:end] = data[other : other + length]
            case 6:
                data[place:place] = rng.randbytes(length)
            case 7:
                data[place:place] = rng.choice(OPCODES) * rng.choice([1, 1, 2, 100])
            case 8:
                del data[place:]
    return bytes(data)


def corrupted(format_, path, rng):
    path.unlink(missing_ok=True)
    root, values = checkpoint()
    inside = rng.random() < 0.5
    if format_ == "safetensors":
        ends = np.cumsum([0, *(value.nbytes for value in values.values())]).tolist()
        entries = {
            key: {"dtype": dtype, "shape": [*value.shape], "data_offsets": ends[i : i + 2]}
            for i, ((key, value), dtype) in enumerate(
                zip(values.items(), ("F32", "BOOL", "I64"), strict=True)
            )
        }
        header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
        header = corrupt(header, rng) if inside else header
        write_safetensors(path, header, b"".join(value.tobytes() for value in values.values()))
    elif format_ == "zip":
        # A member's checksum reveals every change that is made after it was computed.
        root = corrupt(dumps(root), rng) if inside else root
        write_zip(path, root, {key: value.tobytes() for key, value in values.items()})
    else:
        root = corrupt(dumps(root), rng) if inside else root
        raws = {key: (value.tobytes(), value.size) for key, value in values.items()}
        write_legacy(path, root, raws)
    if not inside:
        replace(path, corrupt(path.read_bytes(), rng))


def check(path):
    """Check that a file is refused in few words, or read as arrays no larger than the file."""
    began = time.process_time()
    problem = None
    try:
        for name, value in load_checkpoint(path).items():
            assert isinstance(name, str)
            assert value.nbytes <= path.stat().st_size, "larger than the file"
            value.copy()
    except ValueError as error:
        problem = str(error)
    assert problem is None or 0 < len(problem) <= 500, "a long message"
    assert time.process_time() - began < MOST_SECONDS, "slow"
    return problem is not None


def main(count):
    import resource  # of Linux; this module is imported elsewhere when tests are collected

    held = next(
        int(line.split()[1]) << 10
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmSize")
    )
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES,) * 2)
    # If code outside of Python hangs, the limit on CPU time ends the process.
    soft = 120 + count // 10
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft))
    with tempfile.TemporaryDirectory() as folder:
        for format_ in ("zip", "legacy", "safetensors"):
            path = Path(folder) / f"a.{'safetensors' if format_ == 'safetensors' else 'pth'}"
            began, refused, slowest = time.process_time(), 0, 0.0
            for seed in range(count):
                print(format_, seed, flush=True)
                corrupted(format_, path, random.Random(seed))
                start = time.process_time()
                refused += check(path)
                slowest = max(slowest, time.process_time() - start)
            seconds = time.process_time() - began
            print(
                f"{format_}: {count} files, {refused} refused, {seconds:.1f} s, the slowest "
                f"{slowest:.3f} s"
            )
    print(f"peak {peak_memory() >> 20} MB")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]))

"""IDX files, the format of the MNIST family, and the md5 sums of the official ones, decompressed."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan_experiments.errors import UserError

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "held_out_images": "t10k-images-idx3-ubyte",
    "held_out_labels": "t10k-labels-idx1-ubyte",
}

FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}

MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def find(folder: Path) -> dict[str, Path] | None:
    """The four files of an MNIST-like set in `folder`, each decompressed or .gz; None unless all four are there."""
    found = {}
    for part, name in FILES.items():
        candidates = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not candidates:
            return None
        found[part] = candidates[0]
    return found


def read(path: Path, md5: str | None = None) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped or not, as an array.

    Raises UserError when it is broken, or its decompressed content has another md5.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: can't be read ({error}); replace it by an intact copy") from error
    if md5 is not None and (actual := hashlib.md5(raw, usedforsecurity=False).hexdigest()) != md5:
        raise UserError(
            f"{path}: its content has md5 {actual}, expected {md5}; delete it or replace it by the official file"
        )
    return parse(raw, path)


def parse(raw: bytes, path: Path) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file; UserError names `path` when header and length disagree."""
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise UserError(f"{path}: not an IDX file of unsigned bytes (it should start with 00 00 08)")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise UserError(f"{path}: ends within its header; replace it by an intact copy")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    if len(raw) - start != int(np.prod(shape, dtype=np.int64)):
        raise UserError(
            f"{path}: holds {len(raw) - start} bytes, expected an array {shape}; replace it by an intact copy"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)

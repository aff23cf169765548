"""A tree of images decoded once into one memory-mapped array, with a sidecar that says what is in it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from gan_experiments.data import pictures
from gan_experiments.errors import UserError

LAYOUT = 1
ABANDONED_SECONDS = 3600

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sidecar:
    """What a cache holds: relative names in the array's order, {name: reason} of skipped ones, and checks of the array.

    `sha256` is that of the pixels, `size` and `modified` are the array file's bytes and time stamp (ns),
    `enlarged` is how many images were smaller than asked for.
    """

    names: list[str]
    skipped: dict[str, str]
    enlarged: int
    transform: str
    sha256: str
    size: int
    modified: int


class PictureCache:
    """The decoded images of the tree `root`: a uint8 array (n, channels, size, size) in `folder`, written when missing.

    The file's name holds a hash of all names, sizes, time stamps and the transform, so a changed tree gets a new one.
    Written under a temporary name and renamed: readers and concurrent writers only ever see whole files.
    Raises UserError when the tree holds no images.
    """

    def __init__(self, root: Path, folder: Path, size: int, channels: int, refuse_broken: bool) -> None:
        self.root, self.size, self.channels, self.refuse_broken = root, size, channels, refuse_broken
        self.transform = pictures.describe(size, channels)
        self.names = pictures.find(root)
        if not self.names:
            expected = ", ".join(pictures.EXTENSIONS)
            raise UserError(f"{root}: no images in this folder or below it; expected files ending in {expected}")
        self.array = folder / f"{root.resolve().name}-{size}x{size}x{channels}-{self._key()[:16]}.npy"
        self.sidecar = self.array.with_suffix(".json")

    def open(self) -> tuple[NDArray[np.uint8], Sidecar]:
        """The memory-mapped array (n, channels, size, size) and its sidecar; built first when they aren't whole.

        Raises UserError when no image can be read, when one is broken and those are refused, or on a full disk.
        """
        sidecar = self._whole()
        if sidecar is None:
            sidecar = self._build()
        elif sidecar.skipped:
            count = len(sidecar.skipped)
            if self.refuse_broken:
                name, reason = next(iter(sidecar.skipped.items()))
                raise self._broken(name, reason)
            logger.warning("%s: %d unreadable images left out, listed in %s", self.root, count, self.sidecar)
        if sidecar.enlarged:
            small = (self.root, sidecar.enlarged, len(sidecar.names), self.size, self.size)
            logger.warning("%s: %d of %d images are smaller than %dx%d and were enlarged", *small)
        # Mode "c" never writes to the file, yet gives torch the writable array it wants.
        return np.load(self.array, mmap_mode="c", allow_pickle=False), sidecar

    def _key(self) -> str:
        """Hash of everything the array depends on."""
        digest = hashlib.sha256(f"{LAYOUT}\n{self.transform}\n".encode())
        for name in self.names:
            try:
                status = os.stat(os.path.join(self.root, name))
                facts = f"{status.st_size}\0{status.st_mtime_ns}"
            except OSError:  # a dangling link; decoding will report it by name
                facts = "missing"
            digest.update(f"{name}\0{facts}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _whole(self) -> Sidecar | None:
        """The sidecar if it and its array are there and intact, else None."""
        try:
            sidecar = Sidecar(**json.loads(self.sidecar.read_bytes()))
            status = self.array.stat()
            if status.st_size == sidecar.size and status.st_mtime_ns == sidecar.modified:
                return sidecar
            if status.st_size == sidecar.size and self._checksum(len(sidecar.names)) == sidecar.sha256:
                self._write_sidecar(replaced := replace(sidecar, modified=status.st_mtime_ns))
                return replaced
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s: can't be read (%s)", self.sidecar, error)
        logger.warning("%s: damaged, decoding the images again", self.array)
        return None

    def _checksum(self, count: int) -> str:
        """SHA-256 of the pixels in the array file; raises ValueError when it isn't an array of `count` images."""
        stored = np.load(self.array, mmap_mode="r", allow_pickle=False)
        if stored.shape != (count, self.channels, self.size, self.size) or stored.dtype != np.uint8:
            raise ValueError(f"{self.array} holds {stored.dtype} {stored.shape}")
        digest = hashlib.sha256()
        for start in range(0, count, 1024):
            digest.update(np.ascontiguousarray(stored[start : start + 1024]).data)
        return digest.hexdigest()

    def _build(self) -> Sidecar:
        """Decode all images and put array and sidecar in place."""
        try:
            self.array.parent.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            with atomically(self.array) as file:
                sidecar = self._decode_into(file)
            status = self.array.stat()
            sidecar = replace(sidecar, size=status.st_size, modified=status.st_mtime_ns)
            self._write_sidecar(sidecar)
        except OSError as error:
            message = f"{self.array.parent}: can't write the image cache ({error}); free space or set dataset.cache"
            raise UserError(message) from error
        return sidecar

    def _decode_into(self, file: BinaryIO) -> Sidecar:
        """Write the array's header and pixels; images are appended in order, so broken ones leave no gap."""
        from tqdm import tqdm

        names, skipped, enlarged, digest = [], {}, 0, hashlib.sha256()
        start = self._write_header(file, len(self.names))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = in_order(pool, self._decode, self.names, 8 * (os.cpu_count() or 1))
            progress = tqdm(decoded, f"decoding {self.root}", len(self.names), unit="image", disable=None)
            for name, picture in zip(self.names, progress, strict=True):
                if isinstance(picture, str):
                    if self.refuse_broken:
                        raise self._broken(name, picture)
                    logger.warning("%s: left out, can't be read (%s)", self.root / name, picture)
                    skipped[name] = picture
                    continue
                pixels, small = picture
                file.write(pixels.data)
                digest.update(pixels.data)
                names.append(name)
                enlarged += small
        if not names:
            reason = next(iter(skipped.values()))
            raise UserError(f"{self.root}: none of its {len(self.names)} images can be read; the first: {reason}")
        file.seek(0)
        if self._write_header(file, len(names)) != start:
            raise OSError("the array's header changed its length")
        return Sidecar(names, skipped, enlarged, self.transform, digest.hexdigest(), 0, 0)

    def _write_header(self, file: BinaryIO, count: int) -> int:
        """Write the .npy header for `count` images and return where the pixels start."""
        shape = (count, self.channels, self.size, self.size)
        np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return file.tell()

    def _decode(self, name: str) -> tuple[NDArray[np.uint8], bool] | str:
        """The picture, or why it can't be read."""
        try:
            return pictures.load(self.root / name, self.size, self.channels)
        # Pillow's readers raise nearly anything on a broken file: OSError, SyntaxError, struct.error, EOFError ...
        except Exception as error:
            return " ".join(f"{type(error).__name__}: {error}".split())

    def _broken(self, name: str, reason: str) -> UserError:
        """The refusal of a broken image."""
        return UserError(f"{self.root / name}: can't be read ({reason}); remove it or set dataset.on_broken=skip")

    def _write_sidecar(self, sidecar: Sidecar) -> None:
        """Put the sidecar in place."""
        with atomically(self.sidecar) as file:
            file.write(json.dumps(asdict(sidecar), indent=0).encode())

    def _remove_abandoned(self) -> None:
        """Delete what killed processes left of this array; a living writer touches its file all the time."""
        for path in self.array.parent.glob(f"{self.array.name}.*.tmp"):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` in one step when the block ends well, and vanishes when it doesn't."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """The function's results in the items' order, computed by the pool at most `ahead` of the reader."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

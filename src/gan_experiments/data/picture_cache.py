"""A tree of images decoded once into one memory-mapped array, with a sidecar that says what is in it."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from gan_experiments.data import pictures, tree
from gan_experiments.data.caches import FORBIDDEN, atomically, own_folder, places, say_elsewhere
from gan_experiments.data.depth import Depths, Extent, Unreadable
from gan_experiments.data.natural import readable
from gan_experiments.data.tree import shortened
from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import remove_dead

LAYOUT = 2
DARK = 31
NAMED = 10
NAME_LENGTH = 60
ABANDONED_SECONDS = 3600

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sidecar:
    """What a cache holds: relative names in the array's order, {name: reason} of skipped ones, and checks of the array.

    `sha256` is that of the pixels, `size` and `modified` are the array file's bytes and time stamp (ns),
    `enlarged` is how many images were smaller than asked for, `brightest` the greatest byte of all; `depth` says how
    values of more than 8 bits were taken, where that doesn't go without saying.
    """

    names: list[str]
    skipped: dict[str, str]
    enlarged: int
    transform: str
    sha256: str
    size: int
    modified: int
    brightest: int = 255
    depth: str = ""


class PictureCache:
    """The decoded images of the tree `root`: a uint8 array (n, channels, size, size) in `folder`, written when missing.

    The file's name holds a hash of all names, sizes, time stamps and the transform, so a changed tree gets a new one.
    Written under a temporary name and renamed: readers and concurrent writers only ever see whole files. Where `folder`
    can't be written, the array is in the user's own folder of caches.
    Raises UserError when the tree holds no images.
    """

    def __init__(self, root: Path, folder: Path, size: int, channels: int, refuse_broken: bool) -> None:
        self.root, self.folder, self.size, self.channels, self.refuse_broken = (
            root,
            folder,
            size,
            channels,
            refuse_broken,
        )
        self.said, self.transform = shortened(root), pictures.describe(size, channels)
        self.tree = tree.survey(root)
        self.names = self.tree.names
        if not self.names:
            passed = f" ({self.tree.describe()})" if self.tree.passed else ""
            raise UserError(
                f"{self.said}: no images in this folder or below it{passed}; expected files ending in {tree.USUAL} ..."
            )
        name = re.sub(r"[^\w-]", "_", root.resolve().name, flags=re.ASCII)[:NAME_LENGTH]
        self.file = f"{name}-{size}x{size}x{channels}-{self._key()[:16]}.npy"
        self.depths = Depths(self._extents)
        self._settle(folder)

    def _settle(self, folder: Path) -> None:
        """Have array and sidecar in that folder."""
        self.array = folder / self.file
        self.sidecar = self.array.with_suffix(".json")

    def open(self) -> tuple[NDArray[np.uint8], Sidecar]:
        """The memory-mapped array (n, channels, size, size) and its sidecar; built first when they aren't whole.

        Raises UserError when no image can be read, when one is broken and those are refused, or on a full disk.
        """
        found = self._found()
        sidecar = found or self._build()
        if self.refuse_broken and sidecar.skipped:
            raise self._broken(*next(iter(sidecar.skipped.items())))
        self._report(sidecar, found is not None)
        # Mode "c" never writes to the file, yet gives torch the writable array it wants.
        return np.load(self.array, mmap_mode="c", allow_pickle=False), sidecar

    def _report(self, sidecar: Sidecar, again: bool) -> None:
        """Say what is not as one would expect; `again` if the images were decoded before."""
        if self.tree.passed:
            logger.warning("%s: %s", self.said, self.tree.describe())
        if sidecar.skipped and (again or len(sidecar.skipped) > NAMED):
            name, reason = next(iter(sidecar.skipped.items()))
            what = (self.said, len(sidecar.skipped), readable(name), reason, self.sidecar)
            logger.warning("%s: %d unreadable images left out, the first %s (%s), all listed in %s", *what)
        if sidecar.depth:
            logger.warning("%s: %s", self.said, sidecar.depth)
        if sidecar.brightest <= DARK:
            dark = (self.said, len(sidecar.names), sidecar.brightest)
            logger.warning(
                "%s: all %d images are nearly black, none brighter than %d of 255; label maps, or few bits?",
                *dark,
            )
        if sidecar.enlarged:
            small = (self.said, sidecar.enlarged, len(sidecar.names), self.size, self.size)
            logger.warning("%s: %d of %d images are smaller than %dx%d and were enlarged", *small)

    def _found(self) -> Sidecar | None:
        """The sidecar of a whole array in the folder, or in the user's own; None when there is none."""
        for folder in (self.folder, own_folder() / self.folder.name):
            self._settle(folder)
            if sidecar := self._whole():
                return sidecar
        return None

    def _key(self) -> str:
        """Hash of everything the array depends on."""
        digest = hashlib.sha256(f"{LAYOUT}\n{self.transform}\n".encode())
        for name in self.names:
            try:
                status = os.stat(os.path.join(self.root, name))
                # The time of the last change of any kind, because tools that edit in place may put the other one back.
                facts = f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
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
                replaced = replace(sidecar, modified=status.st_mtime_ns)
                with suppress(OSError):  # somebody else's cache; its pixels are then summed up each time
                    self._write_sidecar(replaced)
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
        """Decode all images and put array and sidecar in place, in the first folder that may be written."""
        for folder in places(self.folder):
            self._settle(folder)
            try:
                sidecar = self._write()
            except OSError as error:
                if error.errno not in FORBIDDEN:
                    raise self._unwritable(error) from error
                refused = error
                continue
            if folder != self.folder:
                say_elsewhere("dataset.cache", self.folder, folder)
            return sidecar
        raise self._unwritable(refused) from refused

    def _unwritable(self, error: OSError) -> UserError:
        """The line that says where the cache can't be, and why."""
        message = f"{shortened(self.array.parent)}: can't write the image cache ({error.strerror or error})"
        return UserError(f"{message}; free space, or set dataset.cache (or run.data) to a folder that can be written")

    def _write(self) -> Sidecar:
        """Decode all images into the array, and put it and its sidecar in place."""
        self.array.parent.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        with atomically(self.array) as file:
            sidecar = self._decode_into(file)
        status = self.array.stat()
        sidecar = replace(sidecar, size=status.st_size, modified=status.st_mtime_ns)
        self._write_sidecar(sidecar)
        return sidecar

    def _decode_into(self, file: BinaryIO) -> Sidecar:
        """Write the array's header and pixels; images are appended in order, so broken ones leave no gap."""
        from tqdm import tqdm

        names: list[str] = []
        skipped: dict[str, str] = {}
        enlarged, brightest, digest = 0, 0, hashlib.sha256()
        start = self._write_header(file, len(self.names))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = in_order(pool, self._decode, self.names, 8 * (os.cpu_count() or 1))
            progress = tqdm(decoded, f"decoding {self.said}", len(self.names), unit="image", disable=None)
            for name, picture in zip(self.names, progress, strict=True):
                if isinstance(picture, str):
                    if self.refuse_broken:
                        raise self._broken(name, picture)
                    if len(skipped) < NAMED:
                        logger.warning("%s: left out, can't be read (%s)", readable(str(self.root / name)), picture)
                    skipped[name] = picture
                    continue
                pixels, small = picture
                file.write(pixels.data)
                digest.update(pixels.data)
                names.append(name)
                enlarged, brightest = enlarged + small, max(brightest, int(pixels.max()))
        if not names:
            reason = next(iter(skipped.values()))
            raise UserError(f"{self.said}: none of its {len(self.names)} images can be read; the first: {reason}")
        file.seek(0)
        if self._write_header(file, len(names)) != start:
            raise OSError("the array's header changed its length")
        said = self.depths.describe()
        transform = f"{self.transform}, {said}" if said else self.transform
        explained = self.depths.explain()
        return Sidecar(names, skipped, enlarged, transform, digest.hexdigest(), 0, 0, brightest, explained)

    def _write_header(self, file: BinaryIO, count: int) -> int:
        """Write the .npy header for `count` images and return where the pixels start."""
        shape = (count, self.channels, self.size, self.size)
        np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return file.tell()

    def _decode(self, name: str) -> tuple[NDArray[np.uint8], bool] | str:
        """The picture, or why it can't be read."""
        try:
            return pictures.load(self.root / name, self.size, self.channels, self.depths)
        except Unreadable as error:
            return str(error)

    def _extents(self) -> Iterator[Extent]:
        """Kind and reach of the values of all images with more than 8 bits."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            paths = (self.root / name for name in self.names)
            yield from filter(None, in_order(pool, pictures.extent, paths, 8 * (os.cpu_count() or 1)))

    def _broken(self, name: str, reason: str) -> UserError:
        """The refusal of a broken image."""
        return UserError(
            f"{shortened(self.root / name)}: can't be read ({reason}); remove it or set dataset.on_broken=skip"
        )

    def _write_sidecar(self, sidecar: Sidecar) -> None:
        """Put the sidecar in place."""
        with atomically(self.sidecar) as file:
            file.write(json.dumps(asdict(sidecar), indent=0).encode())

    def _remove_abandoned(self) -> None:
        """Delete what killed processes left; under names of earlier versions, a living writer touches its file all the
        time."""
        remove_dead(self.array.parent)
        for path in self.array.parent.glob(f"{glob.escape(self.array.name)}.*.tmp"):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)


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

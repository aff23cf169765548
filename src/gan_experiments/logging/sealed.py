"""Files that carry the hash of their content: a zip archive, as torch writes it, with the hash as its comment."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import BinaryIO, final

MARK = b"gan-experiments sha256 "
BLOCK = 1 << 22
NO_COMMENT = b"\0\0"


@final
class SealedWriter:
    """Passes an archive on to `file` while it is hashed; `close` puts the hash of all bytes before it at the end.

    An error of the file is kept in `error`: torch, which writes through here, would hide it behind one of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self._digest, self._held = hashlib.sha256(), b""

    def write(self, content: bytes) -> int:
        """Take the next bytes of the archive; its last two, the length of its comment, are held back."""
        content, size = self._held + content, len(content)
        self._held = content[-len(NO_COMMENT) :]
        self._put(content[: -len(NO_COMMENT)])
        return size

    def flush(self) -> None:
        """Part of what torch asks of a file."""

    def close(self) -> None:
        """Write the hash; ValueError when what was written is no archive without a comment."""
        if self._held != NO_COMMENT:
            raise ValueError("not the end of an archive")
        self._put((len(MARK) + 2 * self._digest.digest_size).to_bytes(2, "little") + MARK)
        self.file.write(self._digest.hexdigest().encode())

    def _put(self, content: bytes) -> None:
        try:
            self.file.write(content)
        except OSError as error:
            self.error = error
            raise
        self._digest.update(content)


def damage(path: Path) -> str:
    """What is wrong with an archive's bytes, in a few words; empty if they are those that were written.

    Archives without a hash, of earlier versions, are checked by their own sums (CRC-32 a member).
    """
    try:
        with open(path, "rb") as file:
            seal = re.fullmatch(re.escape(MARK) + b"([0-9a-f]{64})", _tail(file))
            if seal is not None:
                return "" if _hash(file, 64) == seal[1].decode() else "its content doesn't match its SHA-256"
        with zipfile.ZipFile(path) as archive:
            if archive.comment:
                return "its SHA-256 can't be read"
            member = archive.testzip()
            return "" if member is None else f"the sum of {member} doesn't match"
    # readers of archives raise nearly anything on damaged ones
    except Exception as error:
        return f"truncated, or not a file of gan-train ({type(error).__name__})"


def _tail(file: BinaryIO) -> bytes:
    size = file.seek(0, 2)
    file.seek(max(size - len(MARK) - 64, 0))
    return file.read()


def _hash(file: BinaryIO, less: int) -> str:
    """SHA-256 (hex) of a file without its last `less` bytes."""
    left = file.seek(0, 2) - less
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0:
        block = file.read(min(BLOCK, left))
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()

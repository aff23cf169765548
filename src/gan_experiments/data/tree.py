"""Which image files there are below a folder, and which files are passed over, with the reason."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from gan_experiments.data.natural import natural_key, readable
from gan_experiments.errors import UserError

log = logging.getLogger(__name__)

EXTENSIONS = (
    ".apng", ".avif", ".avifs", ".bmp", ".dds", ".dib", ".gif", ".icns", ".ico", ".im", ".j2c", ".j2k", ".jfif", ".jp2",
    ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm",
    ".qoi", ".ras", ".sgi", ".tga", ".tif", ".tiff", ".webp", ".xbm", ".xpm",
)  # fmt: skip
USUAL = ".png, .jpg, .webp, .gif, .tif, .bmp, .avif"
"""Those that a message names."""

SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
"""What operating systems leave, in lower case."""

REASONS = NO_IMAGE, HIDDEN, LOOP, SPECIAL = (
    "no image by the end of its name", "hidden", "a link back up the tree", "no regular file",
)  # fmt: skip


@dataclass
class Tree:
    """Names below a folder, relative with "/": of images, in natural order, and by reason of what is passed over."""

    names: list[str] = field(default_factory=list)
    passed: dict[str, list[str]] = field(default_factory=dict)

    def describe(self) -> str:
        """How many files are passed over, why, and the first; empty when none is."""
        parts = []
        for reason, names in self.passed.items():
            ends = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in names)
            kinds = ", ".join(
                f"{readable(end)} {count}" for end, count in sorted(ends.items(), key=lambda end: (-end[1], end[0]))[:4]
            )
            what = f"{reason} ({kinds}{' ...' if len(ends) > 4 else ''})" if reason == NO_IMAGE else reason
            parts.append(f"{len(names)} {what}, the first {readable(names[0])}")
        count = sum(map(len, self.passed.values()))
        return f"{count} file{'s' * (count > 1)} passed over: {'; '.join(parts)}" if count else ""


def survey(root: Path) -> Tree:
    """All image files below `root` and the files passed over; links to folders are followed, except back up the tree.

    Raises UserError for a folder that can't be listed.
    """
    tree = Tree()
    _walk(root, "", (), tree)
    tree.names.sort(key=natural_key)
    for names in tree.passed.values():
        names.sort(key=natural_key)
    tree.passed = {reason: tree.passed[reason] for reason in REASONS if reason in tree.passed}
    return tree


def find(root: Path) -> list[str]:
    """Names, relative to `root` with "/" and in natural order, of the image files below it."""
    return survey(root).names


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...], tree: Tree) -> None:
    """Add what is below `folder`, whose names begin with `prefix`; `above` are the folders that lead there."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError as error:
        raise refusal(folder, error) from error
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        tree.passed.setdefault(LOOP, []).append(prefix.rstrip("/"))
        return
    for entry in listed:
        name, ending = prefix + entry.name, os.path.splitext(entry.name)[1].lower()
        if _is(entry, folder=True):
            if not entry.name.startswith(".") and entry.name not in SYSTEM_FOLDERS:
                _walk(folder / entry.name, f"{name}/", (*above, identity), tree)
        elif entry.name.startswith("._") or entry.name.lower() in SYSTEM_FILES:
            continue
        elif entry.name.startswith("."):
            if ending in EXTENSIONS:
                tree.passed.setdefault(HIDDEN, []).append(name)
        elif ending not in EXTENSIONS:
            tree.passed.setdefault(NO_IMAGE, []).append(name)
        elif entry.is_symlink() or _is(entry, folder=False):  # a dangling link is reported when it is to be read
            tree.names.append(name)
        else:
            tree.passed.setdefault(SPECIAL, []).append(name)


def _is(entry: os.DirEntry[str], folder: bool) -> bool:
    """Whether an entry is a folder, or else a regular file; links count as what they lead to."""
    try:
        return entry.is_dir() if folder else entry.is_file()
    except OSError:  # a link to itself
        return False


def refusal(folder: Path, error: OSError) -> UserError:
    """The line that says which folder can't be listed, and what to do about it."""
    cures = {
        errno.EACCES: "allow reading it or move it away",
        errno.ENAMETOOLONG: "shorten the names of the folders that lead there",
        errno.ELOOP: "a link there leads to itself; remove it",
        errno.ENOTDIR: "it is a file; give a folder",
        errno.ENOENT: "it vanished while it was being read; start again",
    }
    cure = cures.get(error.errno or 0, "mend that, or move it away")
    return UserError(f"{shortened(folder)}: can't be listed ({error.strerror}); {cure}")


def shortened(path: Path | str, length: int = 200) -> str:
    """A path as printable text, its middle left out where it is long."""
    text = readable(str(path))
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"


def expanded(path: str) -> Path:
    """A path in which ~ stands for the home, unless something there is called so."""
    plain = Path(path)
    return plain if not path.startswith("~") or os.path.exists(path) else Path(os.path.expanduser(path))

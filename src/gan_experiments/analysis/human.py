"""People telling real from generated images: a page that asks them, and the score of their answers (HYPE, Zhou et al.
2019)."""

from __future__ import annotations

import base64
import csv
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data import pictures
from gan_experiments.data.depth import Unreadable
from gan_experiments.data.natural import readable
from gan_experiments.data.tree import find
from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic

Pixels = NDArray[np.uint8]

REAL, FAKE = "real", "fake"
RESAMPLES = 2000
COLUMNS = ("sheet", "rater", "image", "answer", "milliseconds")


def from_folder(folder: Path, count: int, seed: int, size: int | None) -> list[Pixels]:
    """`count` random images of a folder as bytes (h, w, 3); with `size` their centre squares, resized to that.

    Raises UserError when there are fewer, or one can't be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder of image files")
    names = find(folder)
    if len(names) < count:
        raise UserError(f"{folder}: holds {len(names)} images, but {count} are wanted; set --count lower")
    order = torch.randperm(len(names), generator=seeding.generator(seed, "human", readable(folder.name)))
    return [read(folder / names[place], size) for place in order[:count].tolist()]


def read(path: Path, size: int | None) -> Pixels:
    """One image file as bytes (h, w, 3)."""
    try:
        if size is not None:
            return np.ascontiguousarray(pictures.load(path, size, 3)[0].transpose(1, 2, 0))
        with pictures.opened(path) as file:
            return np.asarray(pictures.flatten(pictures.upright(file), "RGB"), dtype=np.uint8)
    except Unreadable as error:
        raise UserError(f"{path}: can't be read as an image ({error}); mend it or take it out") from error


def from_bytes(images: Tensor) -> list[Pixels]:
    """uint8 images (n, 1 or 3, h, w) as arrays (h, w, 3)."""
    spread = images.cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    return [np.ascontiguousarray(image.numpy()) for image in spread]


def make_sheet(
    reals: Sequence[Pixels], fakes: Sequence[Pixels], out: Path, seconds: float | None, facts: Mapping[str, object]
) -> Path:
    """Write out/page/index.html, to be given to raters, and out/key.json, to be kept; returns the page's path.

    Images come as the same kind of PNG under random names in the names' order, so that the page doesn't say which is
    which. Raises UserError when sizes differ, since those would.
    """
    sizes = sorted({f"{image.shape[1]}x{image.shape[0]}" for image in (*reals, *fakes)})
    if len(sizes) > 1:
        raise UserError(
            f"images have different sizes ({', '.join(sizes[:4])}), which would give them away; set --size to one "
            "number of pixels for all"
        )
    # Names from the system's randomness: names that follow from a seed could be worked out by a rater.
    kinds = [(secrets.token_hex(8), REAL, image) for image in reals]
    kinds += [(secrets.token_hex(8), FAKE, image) for image in fakes]
    kinds.sort(key=lambda entry: entry[0])
    sheet = secrets.token_hex(8)
    shown = [{"id": name, "png": base64.b64encode(encode(image)).decode()} for name, _, image in kinds]
    template = (resources.files("gan_experiments") / "assets" / "human_sheet.html").read_text(encoding="utf-8")
    content = json.dumps({"sheet": sheet, "seconds": seconds, "images": shown})
    key = {"sheet": sheet, **facts, "seconds": seconds, "images": {name: kind for name, kind, _ in kinds}}
    page = out / "page" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(page, template.replace("__SHEET__", content))
    write_atomic(out / "key.json", json.dumps(key, indent=1) + "\n")
    return page


def encode(image: Pixels) -> bytes:
    """Bytes (h, w, 3) as a PNG file without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Key:
    """Which image of a sheet is what: names to "real" or "fake"."""

    sheet: str
    images: dict[str, str]

    @staticmethod
    def read(path: Path) -> Key:
        """The key in a file; UserError when it isn't one."""
        content = read_json(path)
        images = content.get("images")
        if (
            not isinstance(content.get("sheet"), str)
            or not isinstance(images, dict)
            or {*images.values()} != {REAL, FAKE}
        ):
            raise UserError(f"{path}: not a key; give the key.json that was written with the page")
        return Key(content["sheet"], images)


class Rater(NamedTuple):
    """What one person said of which image."""

    name: str
    answers: dict[str, str]


def read_answers(path: Path, key: Key) -> Rater:
    """The answers in a file saved by the page, JSON or CSV; UserError unless they belong to the key."""
    rows = read_rows(path)
    for row in rows:
        if row.get("sheet") != key.sheet:
            raise UserError(f"{path}: answers of sheet {row.get('sheet')}, but the key is of sheet {key.sheet}")
    names = {row.get("rater") for row in rows}
    if len(names) != 1 or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: expected at least one answer, and all of one rater")
    answers: dict[str, str] = {}
    for row in rows:
        image, answer = row.get("image"), row.get("answer")
        if image not in key.images:
            raise UserError(f"{path}: an answer for image {image}, which the key doesn't have")
        if answer not in (REAL, FAKE):
            raise UserError(f"{path}: image {image} is called {answer!r}; expected real or fake")
        if image in answers:
            raise UserError(f"{path}: two answers for image {image}")
        answers[image] = answer
    return Rater(str(names.pop()), answers)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The answers in a JSON or CSV file, each with sheet and rater."""
    if path.suffix == ".csv":
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: can't be read as CSV ({error})") from error
    content = read_json(path)
    answers = content.get("answers")
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise UserError(f"{path}: no list of answers; give a file that the page saved")
    return [{**answer, "sheet": content.get("sheet"), "rater": content.get("rater")} for answer in answers]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; UserError when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    return content


class Share(NamedTuple):
    """A share of wrong answers among n, with its 95 % interval where it has one."""

    error: float
    n: int
    interval: tuple[float, float] | None = None


class HumanScore(NamedTuple):
    """Shares of wrong answers: over all (HYPE-infinity; 1/2 when nobody can tell), on each kind, and per rater."""

    overall: Share
    on_real: Share
    on_fake: Share
    raters: dict[str, dict[str, Share]]
    interval_from: str

    def to_record(self) -> dict[str, Any]:
        """All of it as plain values."""
        record = {"error": self.overall, "error_on_real": self.on_real, "error_on_fake": self.on_fake}
        return {
            **{name: share._asdict() for name, share in record.items()},
            "indistinguishable": 0.5,
            "interval_from": self.interval_from,
            "raters": {
                name: {kind: {"error": share.error, "n": share.n} for kind, share in shares.items()}
                for name, shares in self.raters.items()
            },
        }


def score(key: Key, raters: Sequence[Rater], seed: int = 0) -> HumanScore:
    """The score of all answers; UserError without answers on both kinds, or when a rater comes twice."""
    names = [rater.name for rater in raters]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"rater {twice} has two files of answers; leave one out, or give the two people two names")
    images = sorted(key.images)
    fake = torch.tensor([key.images[image] == FAKE for image in images])
    given = torch.tensor([[float(image in rater.answers) for image in images] for rater in raters], dtype=torch.float64)
    wrong = torch.tensor(
        [
            [float(rater.answers.get(image, key.images[image]) != key.images[image]) for image in images]
            for rater in raters
        ],
        dtype=torch.float64,
    )
    kinds = {"all": torch.ones_like(fake), REAL: ~fake, FAKE: fake}
    for kind, which in kinds.items():
        if not given[:, which].any():
            raise UserError(f"there is no answer for any image of kind {kind}; give files of finished answers")
    weights = resample(len(raters), fake, seed)
    shares = {
        kind: Share(*share(wrong[:, which], given[:, which]), spread(wrong, given, which, *weights))
        for kind, which in kinds.items()
    }
    per_rater = {
        rater.name: {
            kind: Share(*share(wrong[row, which], given[row, which]))
            for kind, which in kinds.items()
            if given[row, which].any()
        }
        for row, rater in enumerate(raters)
    }
    levels = "raters and images" if len(raters) > 1 else "images (of one rater: says nothing of others)"
    source = f"percentiles of {RESAMPLES} bootstrap resamples of {levels}"
    return HumanScore(shares["all"], shares[REAL], shares[FAKE], per_rater, source)


def share(wrong: Tensor, given: Tensor) -> tuple[float, int]:
    """The share of wrong answers among those given, and their number."""
    return float(wrong.sum() / given.sum()), int(given.sum())


def resample(raters: int, fake: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """How often each of the raters (b, r) and each image (b, i) is drawn in b resamples; as many of each kind."""
    generator = seeding.generator(seed, "human", "bootstrap")

    def counts(places: Tensor, total: int) -> Tensor:
        drawn = places[torch.randint(len(places), (RESAMPLES, len(places)), generator=generator)]
        return torch.zeros(RESAMPLES, total, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones_like(drawn, dtype=torch.float64)
        )

    people = counts(torch.arange(raters), raters)
    images = sum((counts(which.nonzero().flatten(), len(fake)) for which in (fake, ~fake)), torch.zeros(()))
    return people, images


def spread(wrong: Tensor, given: Tensor, which: Tensor, people: Tensor, images: Tensor) -> tuple[float, float]:
    """The 95 % interval of the share of wrong answers (r, i) on some images (i,) over resamples."""
    images = images * which
    totals = [((people @ part) * images).sum(1) for part in (wrong, given)]
    values = (totals[0] / totals[1]).nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(values[0]), float(values[1])

"""Settings of metrics and evaluations, and images to be scored, that can't be: one line that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bad_inputs import Bad, answer
from processes import Workshop

IMAGES = (
    "dataset=fashion10k", "model=mlp", "extractor=pixels", "logger=none", "schedule.images=64", "run.dir=run",
    "schedule.batch_size=16", "evaluation.samples=64", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]",
)  # fmt: skip
"""A run on images, refused before anything is trained."""


def pictures(count: int, side: int = 16, channels: int = 3, seed: int = 0) -> Any:
    """Random images (n, h, w, c), uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def archive(folder: Path, name: str, **arrays: Any) -> None:
    """An .npz, and beside it 60 real images to compare with."""
    np.savez(folder / "reals.npz", images=pictures(60, seed=1))
    np.savez(folder / name, **arrays)


def fakes(**arrays: Any) -> Callable[[Path], None]:
    """Prepares fakes.npz of these arrays, and reals.npz."""
    return lambda folder: archive(folder, "fakes.npz", **arrays)


def files(sizes: list[tuple[int, int]], mode: str = "RGB") -> Callable[[Path], None]:
    """Prepares a folder `fakes` of black images of these sizes, and reals.npz."""

    def make(folder: Path) -> None:
        archive(folder, "other.npz", images=pictures(4))
        (folder / "fakes").mkdir()
        for number, size in enumerate(sizes):
            Image.new(mode, size).save(folder / "fakes" / f"{number}.png")

    return make


def written(name: str, content: bytes) -> Callable[[Path], None]:
    """Prepares a file of those bytes, and reals.npz."""

    def make(folder: Path) -> None:
        archive(folder, "other.npz", images=pictures(4))
        (folder / name).write_bytes(content)

    return make


def score(*arguments: str) -> list[str]:
    """Arguments that score fakes.npz against reals.npz in pixels."""
    return ["fakes.npz", "--reference", "reals.npz", "--extractor", "pixels", *arguments]


def stored(arguments: list[str], says: list[str], prepare: Callable[[Path], object] | None = None) -> Bad:
    """A question to evaluate.py about stored images."""
    return Bad(arguments, says, prepare or fakes(images=pictures(40)), "evaluate.py")


def run(says: list[str], *arguments: str) -> Bad:
    """A run on images with these settings of its evaluation."""
    names = {argument.partition("=")[0] for argument in arguments}
    return Bad([*(line for line in IMAGES if line.partition("=")[0] not in names), *arguments], says, tiny=False)


def points(says: list[str], *arguments: str) -> Bad:
    """A run on points with these settings of its evaluation."""
    return Bad(arguments, says)


SCORED = {
    "too few for KID": stored(score("--metric", "kid"), ["held-out", "metric.kid.subset_size to 6 or less"]),
    "one image, FID": stored(score("--metric", "fid"), ["at least 2 samples", "1"], fakes(images=pictures(1))),
    "one image, Inception Score": stored(score("--metric", "inception_score"), ["class probabilities", "pixels"]),
    "one image, two-sample": stored(score("--metric", "two_sample"), ["at least 20", "1"], fakes(images=pictures(1))),
    "too few neighbours": stored(
        score("--metric", "precision_recall"), ["k=3", "at least 4"], fakes(images=pictures(3))
    ),
    "too few for birthdays": stored(score("--metric", "birthday"), ["metric.birthday.size to 5 or less"]),
    "too few for bins": stored(score("--metric", "ndb"), ["metric.ndb.bins to 5 or less"]),
    "too few for clusters": stored(score("--metric", "prd"), ["20 clusters"], fakes(images=pictures(5))),
    "too few for spectra": stored(score("--metric", "spectra"), ["at least 4"], fakes(images=pictures(3))),
    "too few for a line": stored(score("--metric", "fid_infinity"), ["at least"]),
    "too few for windows": stored(score("--metric", "parzen"), ["metric.parzen.tuning"]),
    "no images": stored(score("--metric", "fid"), ["fakes.npz"], fakes(images=pictures(0))),
    "no held-out images for copying": stored(
        score("--metric", "data_copying", "--held-out", "0"), ["held-out"]
    ),
    "all held out": stored(score("--metric", "fid", "--held-out", "0.999"), ["reals.npz", "0.999"]),
    "other sides": stored(score("--metric", "fid"), ["(3, 16, 16)", "(3, 8, 8)"], fakes(images=pictures(40, 8))),
    "other channels": stored(
        score("--metric", "fid"), ["(3, 16, 16)", "(1, 16, 16)"], fakes(images=pictures(40, 16, 1))
    ),
    "floats above 1": stored(score("--metric", "fid"), ["fakes.npz"], fakes(images=pictures(40).astype(np.float32))),
    "floats that are NaN": stored(
        score("--metric", "fid"), ["fakes.npz"], fakes(images=np.full((40, 16, 16, 3), np.nan, dtype=np.float32))
    ),
    "one dimension": stored(score("--metric", "fid"), ["fakes.npz"], fakes(images=np.zeros(40, dtype=np.uint8))),
    "words": stored(score("--metric", "fid"), ["fakes.npz"], fakes(images=np.array(["a", "b"]))),
    "pickled objects": stored(
        score("--metric", "fid"), ["fakes.npz"], fakes(images=np.array([{"a": 1}, None], dtype=object))
    ),
    "no array of images": stored(score("--metric", "fid"), ["fakes.npz"], fakes(weights=pictures(40))),
    "labels too short": stored(
        score("--metric", "fid"), ["fakes.npz", "labels"], fakes(images=pictures(40), labels=np.arange(3))
    ),
    "labels below 0": stored(
        ["reals.npz", "--reference", "fakes.npz", "--extractor", "pixels", "--metric", "fid"], ["-1"],
        fakes(images=pictures(40), labels=np.arange(40) - 1),
    ),
    "not an archive": stored(score("--metric", "fid"), ["fakes.npz"], written("fakes.npz", b"PK\x03\x04 no more")),
    "an archive cut short": stored(score("--metric", "fid"), ["fakes.npz"], written("fakes.npz", b"")),
    "images of two sizes": stored(
        ["fakes", "--reference", "reals.npz", "--extractor", "pixels", "--metric", "fid"], ["2 sizes", "--size"],
        files([(16, 16), (20, 16)]),
    ),
    "another size than the reference": stored(
        ["fakes", "--reference", "reals.npz", "--extractor", "pixels", "--metric", "fid"], ["16"], files([(20, 20)] * 3)
    ),
    "an empty folder": stored(["fakes", "--reference", "reals.npz"], ["fakes"], files([])),
    "compared with nothing": stored(["fakes.npz"], ["--reference PATH or --dataset NAME"]),
    "compared with a data set of points": stored(["fakes.npz", "--dataset", "ring"], ["points"]),
    "compared with other sizes": stored(
        ["fakes.npz", "--dataset", "fashion10k", "--extractor", "pixels"], ["fakes.npz"]
    ),
    "no classes for the classifier": stored(
        ["fakes.npz", "--reference", "reals.npz", "--extractor", "classifier"], ["labels"]
    ),
    "no extractor chosen": stored(["fakes.npz", "--reference", "reals.npz"], ["--extractor"]),
    "paths of stored images": stored(score("--metric", "perceptual_path_length"), ["perceptual_path_length"]),
    "networks of stored images": stored(
        ["fakes.npz", "--dataset", "fashion10k", "--metric", "classifier_error", "--extractor", "classifier"],
        ["fakes.npz"],
    ),
    "truncated stored images": stored(score("--truncation", "0.5"), ["fakes.npz", "--psi"]),
    "raw weights of stored images": stored(score("--raw"), ["fakes.npz", "--raw"]),
    "samples of a run only": stored(score("--draws", "3"), ["fakes.npz", "--draws"]),
    "more neighbours than images": stored(
        score("--metric", "density_coverage", "metric.density_coverage.k=70"), ["k=70", "71"]
    ),
    "reals that are more than there are": stored(
        score("--metric", "fid", "evaluation.reals=500"), ["reals=500", "at most the 54"]
    ),
}  # fmt: skip
SET = {
    "reals 0": run(["reals"], "metric=fid", "evaluation.reals=0"),
    "reals beyond the data": run(["reals=99999", "at most"], "metric=fid", "evaluation.reals=99999"),
    "draws 0": points(["evaluation.draws"], "evaluation.draws=0"),
    "samples 0": points(["evaluation.samples"], "evaluation.samples=0"),
    "batches of 0": points(["evaluation.batch_size"], "evaluation.batch_size=0"),
    "quantise": run(["evaluation.quantise", "round"], "metric=fid", "evaluation.quantise=floor"),
    "statistics": points(["evaluation.statistics"], "evaluation.statistics=frozen"),
    "ddof 2": run(["ddof=2"], "metric=fid", "metric.fid.ddof=2"),
    "one block": run(["blocks=1"], "metric=fid", "metric.fid.blocks=1"),
    "splits 0": run(["splits=0"], "metric=inception_score", "metric.inception_score.splits=0"),
    "class probabilities of points": points(["inception_score", "class probabilities"], "metric=inception_score"),
    "subset of one": run(["subset_size=1"], "metric=kid", "metric.kid.subset_size=1"),
    "hidden below 0": points(["hidden=-1"], "metric=two_sample", "metric.two_sample.hidden=-1"),
    "pairs of one": run(["pairs=1"], "metric=ms_ssim", "metric.ms_ssim.pairs=1"),
    "k 0": points(["k=0"], "metric=precision_recall", "metric.precision_recall.k=0"),
    "quantile 1": points(["quantile=1"], "metric=nearest_neighbours", "metric.nearest_neighbours.quantile=1"),
    "directions 0": points(["directions=0"], "metric=sliced_wasserstein", "metric.sliced_wasserstein.directions=0"),
    "a metric of images": points(["swd", "images"], "metric=swd"),
    "a metric of points": run(["sliced_wasserstein", "points"], "metric=sliced_wasserstein"),
    "an extractor for points": points(["inception", "points"], "extractor=inception"),
    "features without a network": run(["fid", "extractor=pixels"], "metric=fid", "extractor=none"),
    "classes of samples without": points(["class_accuracy", "known classes"], "metric=class_accuracy"),
}


@pytest.mark.parametrize("name", SCORED)
def test_bad_images_and_evaluations(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(SCORED[name], workshop, tmp_path)


@pytest.mark.parametrize("name", SET)
def test_bad_settings_of_metrics(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(SET[name], workshop, tmp_path)

"""Stored images and states of runs as targets of scoring: what they are read as, compared with, and refused for."""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gan_experiments.analysis.choices import Choice
from gan_experiments.analysis.scoring import Row, Scorer
from gan_experiments.analysis.targets import (
    Archive,
    Folder,
    checkpoints,
    class_places,
    common_shape,
    fitting_split,
    identify,
    stored,
)
from gan_experiments.checkpoint import Checkpoints
from gan_experiments.data.npz import load_npz
from gan_experiments.errors import UserError
from gan_experiments.metrics import frechet
from run_folders import config, fid, put

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import evaluate  # noqa: E402


def images(count: int, seed: int, side: int = 4, channels: int = 3, bright: int = 0) -> NDArray[np.uint8]:
    """Noise (n, c, h, w), brighter by `bright`."""
    low = torch.randint(0, 200, (count, channels, side, side), generator=torch.Generator().manual_seed(seed))
    return (low + bright).to(torch.uint8).numpy()


def write(folder: Path, pixels: NDArray[np.uint8], classes: tuple[str, ...] = ("",)) -> Path:
    """One PNG an image, dealt to the class folders in turn."""
    for number, image in enumerate(pixels):
        place = folder / classes[number % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(place / f"{number:04d}.png")
    return folder


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


class Bench:
    """Scores targets by FID of pixels, with caches in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.choice = Choice(["fid"], ["pixels"], overrides=[f"run.data={home / 'data'}", "runtime.threads=1"])

    def row(self, target: Path, **changes: Any) -> Row:
        (row,) = Scorer(replace(self.choice, **changes)).score(target)
        return row

    def fid(self, target: Path, **changes: Any) -> float:
        return self.row(target, **changes).scores["fid"].value


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# .npz


@pytest.mark.parametrize("name", ["arr_0", "images", "samples"])
def test_both_layouts_of_an_npz_are_the_same_images(name: str, tmp_path: Path) -> None:
    pixels, labels = images(6, 0), np.array([0, 1, 2, 0, 1, 2], np.uint8)
    first = npz(tmp_path / "first.npz", **{name: pixels}, labels=labels)
    last = npz(tmp_path / "last.npz", **{name: pixels.transpose(0, 2, 3, 1)}, arr_1=labels)
    for path in (first, last):
        found, numbers, _ = load_npz(path)
        assert torch.equal(found, torch.from_numpy(pixels)) and numbers is not None
        assert numbers.dtype == torch.int64 and numbers.tolist() == labels.tolist()
    grey, none, _ = load_npz(npz(tmp_path / "grey.npz", arr_0=pixels[:, 0]))
    assert torch.equal(grey, torch.from_numpy(pixels[:, :1])) and none is None


class Trap:
    """Something that pickle would execute."""

    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"arr_0": np.array([Trap()], object)}, "arr_0 isn't a plain array of numbers"),
        ({"arr_0": images(2, 0), "labels": np.array([Trap(), 1], object)}, "labels isn't a plain array of numbers"),
        ({"mu": np.zeros(3), "sigma": np.zeros((3, 3))}, "holds mu, sigma; expected images as arr_0 or images"),
        ({"arr_0": np.zeros((2, 3, 4, 4), np.float32)}, r"float32 of shape \(2, 3, 4, 4\); expected uint8"),
        ({"arr_0": np.zeros((2, 5, 4, 4), np.uint8)}, r"uint8 of shape \(2, 5, 4, 4\); expected uint8"),
        ({"arr_0": np.zeros((2, 3, 4, 3), np.uint8)}, "both layouts fit"),
        ({"arr_0": np.zeros((0, 3, 4, 4), np.uint8)}, r"shape \(0, 3, 4, 4\); expected"),
        ({"arr_0": images(2, 0), "arr_1": np.zeros(2)}, r"labels are float64 of shape \(2,\); expected 2 integers"),
        ({"arr_0": images(2, 0), "arr_1": np.zeros((2, 9), int)}, r"labels are int64 of shape \(2, 9\)"),
    ],
)
def test_other_contents_are_refused(
    arrays: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=said):
        load_npz(npz(tmp_path / "x.npz", **arrays))
    assert "executed" not in capsys.readouterr().out


def test_broken_files_are_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path / "x.npz", arr_0=images(50, 0)).read_bytes()
    array = io.BytesIO()
    np.save(array, images(2, 0))
    for content in (whole[: len(whole) // 2], b"", b"x", array.getvalue()):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"x.npz: not a whole .npz file .*; write it by numpy.savez"):
            load_npz(tmp_path / "x.npz")
    with pytest.raises(UserError, match="nowhere.npz: no such file"):
        load_npz(tmp_path / "nowhere.npz")


# what a target is


def test_targets_are_told_apart(tmp_path: Path) -> None:
    run = put(tmp_path / "sweep" / "a", config(), fid(1.0))
    write(run / "samples", images(2, 0))
    put(tmp_path / "sweep" / "b", config(1), fid(1.0))
    assert identify(run) == [run] and identify(tmp_path / "sweep") == [run, run.parent / "b"]
    assert isinstance(identify(run / "samples"), Folder)
    assert isinstance(identify(npz(tmp_path / "x.npz", arr_0=images(2, 0))), Archive)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zip").touch()
    for path, said in (
        (tmp_path / "empty", r"empty: holds neither runs of gan-train nor images \(.png, "),
        (tmp_path / "nowhere", "nowhere: no such file or folder"),
        (tmp_path / "x.zip", "x.zip: expected a run, a folder of runs, a folder of images, or an .npz file"),
    ):
        with pytest.raises(UserError, match=said):
            identify(path)
    with pytest.raises(UserError, match="sweep: holds runs, not images"):
        stored(tmp_path / "sweep")


# images against images


def test_the_same_images_are_no_distance_apart_and_others_are(bench: Bench, tmp_path: Path) -> None:
    own, other = write(tmp_path / "own", images(60, 0)), write(tmp_path / "other", images(60, 1, bright=40))
    again = npz(tmp_path / "again.npz", arr_0=images(60, 0).transpose(0, 2, 3, 1))
    assert abs(bench.fid(own, reference=own, held_out=0.0)) < 1e-6
    assert abs(bench.fid(own, reference=again, held_out=0.0)) < 1e-6
    assert abs(bench.fid(again, reference=own, held_out=0.0)) < 1e-6
    apart = bench.row(own, reference=other, held_out=0.0).scores["fid"]
    # The means differ by 40 / 255 in each of 48 values; the covariances by chance only.
    assert 48 * (40 / 255) ** 2 < apart.value < 48 * (40 / 255) ** 2 + 3
    assert (apart.n_real, apart.n_fake, apart.floor, apart.n_floor) == (60, 60, None, 0)
    assert (apart.weights, apart.draws, apart.dataset, apart.split) == ("stored", 1, "other", "train")


def test_the_reference_is_divided_for_the_floor(bench: Bench, tmp_path: Path) -> None:
    own, other = write(tmp_path / "own", images(50, 0)), write(tmp_path / "other", images(80, 1, bright=40))
    score = bench.row(own, reference=other, held_out=0.25, samples=30).scores["fid"]
    assert (score.n_real, score.n_fake, score.n_floor) == (60, 30, 20)
    assert score.floor is not None and 0 < score.floor < score.value
    turned = bench.row(own, reference=other, held_out=0.25, split="held_out").scores["fid"]
    assert (turned.n_real, turned.n_fake, turned.n_floor, turned.split) == (20, 50, 50, "held_out")
    archive = npz(tmp_path / "other.npz", arr_0=images(80, 1, bright=40))
    assert bench.row(own, reference=archive, held_out=0.25).scores["fid"].n_real == 60
    with pytest.raises(UserError, match="other.npz: a share of 0.001 of its 80 images leaves a part empty"):
        bench.row(own, reference=archive, held_out=0.001)


def test_images_are_compared_with_an_option_of_dataset(bench: Bench, tmp_path: Path) -> None:
    own, overrides = write(tmp_path / "own", images(20, 0)), [*bench.choice.overrides, "dataset.size=4"]
    more = [*overrides, f"dataset.path={write(tmp_path / 'other', images(30, 1))}"]
    assert bench.row(own, dataset="folder", overrides=more).scores["fid"].n_real == 27
    with pytest.raises(UserError, match="dataset.path"):
        bench.row(own, dataset="folder", overrides=overrides)
    with pytest.raises(UserError, match="dataset.pth=x: no such key; expected key=value"):
        bench.row(own, dataset="folder", overrides=["dataset.pth=x"])
    with pytest.raises(UserError, match="no dataset called cifar; there is cifar10, "):
        bench.row(own, dataset="cifar")
    with pytest.raises(UserError, match="own: images are 4x4, but fashion10k has 32x32; set --size 32"):
        bench.row(own, dataset="fashion10k")
    with pytest.raises(UserError, match="own: images can't be compared with ring, which holds points"):
        bench.row(own, dataset="ring")


def test_sizes_are_made_equal_only_when_asked(bench: Bench, tmp_path: Path) -> None:
    mixed = write(tmp_path / "mixed", images(12, 0))
    Image.new("RGB", (6, 8)).save(mixed / "large.png")
    wide = tmp_path / "wide"
    wide.mkdir()
    for number in range(12):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(wide / f"{number}.png")
    large = write(tmp_path / "large", images(30, 1, side=8))
    with pytest.raises(UserError, match=r"mixed: images of 2 sizes, such as 4x4 and 6x8 \(1\); --size 4 crops"):
        bench.row(mixed, reference=large)
    with pytest.raises(UserError, match="wide: images are 6x4; --size 4 scores their centre squares"):
        bench.row(wide, reference=large)
    for target in (mixed, wide):
        row = bench.row(target, reference=large, size=4)
        assert "Lanczos to 4x4" in row.scores["fid"].transform
    # The reference follows the target's own size.
    assert "Lanczos to 4x4" in bench.row(write(tmp_path / "own", images(9, 0)), reference=large).scores["fid"].transform
    array = npz(tmp_path / "x.npz", arr_0=images(9, 0, side=8))
    with pytest.raises(UserError, match=r"x.npz: images of shape .* \(3, 8, 8\) are compared with \(3, 4, 4\)"):
        bench.row(write(tmp_path / "b", images(9, 0)), reference=array)


def test_images_are_turned_once(bench: Bench, tmp_path: Path) -> None:
    own, other = write(tmp_path / "own", images(30, 0)), write(tmp_path / "other", images(30, 1))
    bench.row(own, reference=other)
    arrays = sorted((tmp_path / "data" / "cache").glob("*.npy"))
    stamps = [path.stat().st_mtime_ns for path in arrays]
    bench.row(own, reference=other)
    assert len(arrays) == 2 and [path.stat().st_mtime_ns for path in arrays] == stamps


def test_grey_and_colour(tmp_path: Path) -> None:
    grey, colour = write(tmp_path / "grey", images(4, 0, channels=1)), write(tmp_path / "colour", images(4, 0))
    array = npz(tmp_path / "grey.npz", arr_0=images(4, 0, channels=1))
    assert common_shape(Folder(grey), Folder(grey), None) == (1, 4, 4)
    assert common_shape(Folder(grey), Folder(colour), 5) == common_shape(Folder(colour), Folder(grey), 5) == (3, 5, 5)
    assert common_shape(Folder(colour), Archive(array), None) == (1, 4, 4)


# labels


def labelled(tmp_path: Path, classes: tuple[str, ...]) -> tuple[Folder, Any]:
    reference = Folder(write(tmp_path / "reference", images(40, 1), ("ant", "bee", "cat")))
    dataset = reference.dataset((3, 4, 4), tmp_path / "cache", 0.2, labels=True)
    return Folder(write(tmp_path / "own", images(9, 0), classes)), dataset


def test_class_folders_are_the_labels_of_the_reference(tmp_path: Path) -> None:
    own, dataset = labelled(tmp_path, ("bee", "cat"))
    split = fitting_split(own, dataset, None, tmp_path / "cache", labels=True)
    # Files are read in the order of their names: those of bee come first.
    assert split.labels is not None and split.labels.tolist() == [1] * 5 + [2] * 4
    assert fitting_split(own, dataset, None, tmp_path / "cache", labels=False).labels is None
    numbers = npz(tmp_path / "x.npz", arr_0=images(3, 0), arr_1=np.array([2, 0, 2]))
    found = fitting_split(Archive(numbers), dataset, None, tmp_path / "cache", labels=True)
    assert found.labels is not None and found.labels.tolist() == [2, 0, 2]


def test_class_folders_go_by_name_or_number(tmp_path: Path) -> None:
    classes = ("T-shirt/top", "1", "bag")
    assert class_places(tmp_path, {"T-shirt-top", "1"}, classes).items() >= {"T-shirt-top": 0, "1": 1}.items()
    assert class_places(tmp_path, {"0", "2"}, classes).items() >= {"0": 0, "2": 2}.items()
    with pytest.raises(UserError, match="folder 3 isn't a class of the reference, which has T-shirt-top, 1, bag"):
        class_places(tmp_path, {"1", "3"}, classes)


def test_strange_classes_are_refused(tmp_path: Path) -> None:
    own, dataset = labelled(tmp_path, ("bee", "dog"))
    with pytest.raises(
        UserError, match="folder dog isn't a class of the reference, which has ant, bee, cat; --no-labels"
    ):
        fitting_split(own, dataset, None, tmp_path / "cache", labels=True)
    numbers = npz(tmp_path / "x.npz", arr_0=images(2, 0), arr_1=np.array([0, 3]))
    with pytest.raises(UserError, match="labels run from 0 to 3, but the reference has 3 classes, ant, .* none for 3"):
        fitting_split(Archive(numbers), dataset, None, tmp_path / "cache", labels=True)


def test_an_archive_with_labels_is_a_reference_with_classes(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", arr_0=images(40, 0), arr_1=np.arange(40) % 4)
    dataset = Archive(path).dataset((3, 4, 4), tmp_path, 0.25, labels=True)
    assert dataset.spec.classes == ("0", "1", "2", "3") and (len(dataset.train), len(dataset.held_out)) == (30, 10)
    both = torch.cat([dataset.train.raw(0, 30), dataset.held_out.raw(0, 10)])
    assert {image.numpy().tobytes() for image in both} == {image.tobytes() for image in images(40, 0)}
    place = [image.tobytes() for image in images(40, 0)].index(dataset.train.raw(7, 8).numpy().tobytes())
    assert dataset.train.labels is not None and int(dataset.train.labels[7]) == place % 4
    assert Archive(path).dataset((3, 4, 4), tmp_path, 0.25, labels=False).spec.classes == ()


# choices


def test_nothing_is_chosen_in_silence(bench: Bench, tmp_path: Path) -> None:
    own = write(tmp_path / "own", images(9, 0))
    with pytest.raises(UserError, match=r"own: compared with what\? Add --reference PATH or --dataset NAME"):
        bench.row(own)
    with pytest.raises(UserError, match=r"has no classes .*--extractor efficientnet_lite0 \(offline\), inception"):
        bench.row(own, reference=own, extractors=None)
    for changes in ({"raw": True}, {"draws": 2}, {"checkpoints": "all"}):
        with pytest.raises(UserError, match="own: holds images; --raw, --best, --checkpoints and --draws are for runs"):
            bench.row(own, reference=own, **changes)
    for changes, said in (
        ({"reference": own, "dataset": "ring"}, "--reference and --dataset both say"),
        ({"samples": 0}, "--samples 0: must be 1 or more"),
        ({"held_out": 1.0}, "--held-out 1: expected a share"),
        ({"reference": own, "held_out": 0.0, "split": "held_out"}, "--split held_out needs held-out images"),
    ):
        with pytest.raises(UserError, match=said):
            Choice(**changes)


def test_what_is_offered_is_there() -> None:
    from gan_experiments.analysis.scoring import STORED_METRICS
    from gan_experiments.config import conf_dir

    offered = {"extractor": ["efficientnet_lite0", "inception", "pixels", "classifier"], "metric": STORED_METRICS}
    for group, names in offered.items():
        assert all((Path(conf_dir()) / group / f"{name}.yaml").is_file() for name in names)


def test_metrics_of_held_out_images_need_some(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(tmp_path / "own", images(9, 0))
    monkeypatch.setattr(frechet.FrechetDistance, "needs_held_out", True)
    with pytest.raises(UserError, match="metric fid needs held-out images; give a share, such as --held-out 0.1"):
        bench.row(own, reference=own, held_out=0.0)


# checkpoints


@pytest.mark.parametrize(
    ("choice", "steps"), [("all", [5, 10, 15]), ("10:", [10, 15]), (":10", [5, 10]), ("6:14", [10]), (":", [5, 10, 15])]
)
def test_checkpoints_by_steps(choice: str, steps: list[int], tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "checkpoints", keep=9)
    for step in (5, 10, 15):
        kept.save(step, {})
    assert [path.name for path in checkpoints(tmp_path, choice)] == [f"step-{step:09d}.pt" for step in steps]


def test_checkpoints_that_are_not_there(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "checkpoints").save(5, {})
    with pytest.raises(UserError, match=r"no checkpoint in 6:9; there is 5 \(steps"):
        checkpoints(tmp_path, "6:9")
    for choice in ("5", "a:b", "1:2:3", "-1:5"):
        with pytest.raises(UserError, match=f"--checkpoints {choice}: expected all, or FROM:TO in steps"):
            checkpoints(tmp_path, choice)


# the command


def test_the_command_for_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "own", images(30, 0)), write(tmp_path / "other", images(40, 1))
    monkeypatch.chdir(tmp_path)
    line = [
        "own",
        "--reference",
        "other",
        "--metric",
        "fid",
        "--extractor",
        "pixels",
        "run.data=data",
        "runtime.threads=1",
    ]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *line])
    assert evaluate.main() == 0
    title, _, header, _, row, _, caution = capsys.readouterr().out.splitlines()
    assert caution == "- real data of 4 beside 30 samples: fewer alone make fid higher"
    assert title.startswith("own against other (first frame")
    assert header.split(" | ")[0] == "| score" and row.startswith("| fid ↓ |") and "36 / 30" in row and "(n 4)" in row
    shutil.rmtree(tmp_path / "data")

"""Scripts for finished runs, used as processes on runs that have been moved elsewhere since."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gan_experiments.checkpoint import Checkpoints
from gan_experiments.logging.records import read_records
from gan_experiments.logging.status import State, Status
from processes import Command, Done, gan_train, run_in_turn, script
from tiny import TINY

IMAGES = (
    "schedule.images=null", "schedule.steps=3", "schedule.batch_size=16", "model.generator.width=2",
    "model.discriminator.width=2", "metric=none", "logger=none", "samples.count=4", "evaluation.samples=64",
)  # fmt: skip


class Finished:
    """Two finished runs, what the scripts said about them, and the files they wrote."""

    def __init__(self, home: Path) -> None:
        self.home = home
        first = home / "first"
        trained = run_in_turn(
            {
                "points": gan_train(*TINY, "run.dir=points", "run.seed=3", cwd=first),
                "images": gan_train(*IMAGES, "run.dir=images", cwd=first),
            },
            home,
        )
        assert all(done.code == 0 for done in trained.values()), trained
        self.points, self.images = home / "moved" / "a" / "points", home / "moved" / "b" / "images"
        for now in (self.points, self.images):
            now.parent.mkdir(parents=True)
            shutil.move(first / now.name, now)
        for name in ("truncated", "empty"):
            shutil.copytree(self.points, home / name)
        path = home / "truncated" / "generator.pt"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for path in Checkpoints(home / "empty" / "checkpoints").paths():
            path.unlink()
        for name in ("truncated", "stopped", "whole"):
            shutil.copytree(self.points if name != "truncated" else home / name, home / "sweep" / name)
        Status(home / "sweep" / "stopped" / "status.json").update(State.STOPPED, reason="SIGTERM")
        self.done = run_in_turn(self.commands(), home)

    def commands(self) -> dict[str, Command]:
        """What the tests below look at, by name."""
        here = self.home / "somewhere else"
        points, images = Path("../moved/a/points"), Path("../moved/b/images")
        sample = {
            "grid": [images], "small grid": [images, "--count", 6, "--out", "six.png"],
            "folder": [images, "--count", 5, "--out", "five"], "again": [images, "--count", 5, "--out", "again"],
            "more": [images, "--count", 7, "--out", "seven"],
            "other seed": [images, "--count", 5, "--seed", 1, "--out", "other seed"],
            "raw": [images, "--count", 5, "--raw", "--out", "raw"],
            "csv": [points, "--count", 12, "--out", "points"], "csv other": [points, "--seed", 9, "--out", "points 9"],
            "csv raw": [points, "--count", 12, "--raw", "--out", "points raw"],
            "map": [points, "--out", "map.png"], "no run": ["nowhere"], "truncated": ["../truncated"],
            "no raw": ["../empty", "--raw"], "no count": [points, "--count", 0],
        }  # fmt: skip
        evaluate = {
            "scores": [points, "--json", "scores.json"],
            "seeded scores": [points, "--seed", 5, "--samples", 32, "--json", "seeded.json"],
            "raw scores": [points, "--raw", "--json", "raw.json"],
            "fid": [images, "--metric", "fid", "--extractor", "pixels", "--samples", 80, "--json", "fid.json"],
            "no metric": [points, "--metric", "fidd"], "no extractor": [points, "--extractor", "pixel"],
            "checkpoints": [points, "--checkpoints", "all", "--json", "checkpoints.json"],
            "raw checkpoint": [points, "--raw", "--checkpoints", "20:20", "--json", "raw checkpoint.json"],
            "sweep": ["../sweep", "--draws", 2, "--json", "sweep.json"],
            "held out": [points, "--split", "held_out", "--json", "held out.json", "evaluation.batch_size=16"],
            "no checkpoint": [points, "--checkpoints", "1000:"], "two references": [points, "--reference", "x",
            "--dataset", "ring"], "no key": [points, "evaluation.batchsize=3"],
            "unfit": [images, "--metric", "modes"], "no run scores": ["nowhere"], "truncated scores": ["../truncated"],
        }  # fmt: skip
        own = {
            "prepare": "prepare_fashion10k.py", "train": "train_classifier.py", "sample": "sample.py",
            "evaluate": "evaluate.py", "compare": "compare.py",
        }  # fmt: skip
        return (
            {name: script("sample.py", *map(str, line), cwd=here) for name, line in sample.items()}
            | {name: script("evaluate.py", *map(str, line), cwd=here) for name, line in evaluate.items()}
            | {f"help {name}": script(file, "--help", cwd=here) for name, file in own.items()}
        )

    def path(self, name: str) -> Path:
        """A file or folder that a script wrote."""
        return self.home / "somewhere else" / name

    def said(self, name: str) -> Done:
        """What a command that succeeded said."""
        assert self.done[name].code == 0, self.done[name].err
        return self.done[name]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows in a file that evaluate.py wrote."""
        return json.loads(self.path(name).read_text())  # type: ignore[no-any-return]

    def scores(self, name: str) -> dict[str, dict[str, Any]]:
        """The scores of the only row."""
        (row,) = self.rows(name)
        return row["scores"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("scripts"))


def picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# sample.py


def test_a_grid_of_all_samples_beside_those_of_the_run(finished: Finished) -> None:
    said = finished.said("grid").out
    assert said == "../moved/b/images/samples/grid-seed0.png: 100 samples, ema weights after 48 images\n"
    large = picture(finished.images / "samples" / "grid-seed0.png")
    assert large.ndim == 2 and min(large.shape) >= 10 * 32
    finished.said("small grid")
    small = picture(finished.path("six.png"))
    assert small.ndim == 2 and 6 * 32 * 32 <= small.size < large.size


def test_one_file_a_sample_the_same_for_the_same_seed(finished: Finished) -> None:
    finished.said("folder")
    five = contents(finished.path("five"))
    assert sorted(five) == [f"{number:06d}.png" for number in range(5)]
    assert picture(finished.path("five") / "000004.png").shape == (32, 32)
    assert len(set(five.values())) == 5
    assert contents(finished.path("again")) == five
    seven = contents(finished.path("seven"))
    assert len(seven) == 7 and seven.items() >= five.items()
    assert not set(contents(finished.path("other seed")).values()) & set(five.values())
    assert "raw weights after 48 images" in finished.said("raw").out
    assert sorted(contents(finished.path("raw"))) == sorted(five)


def test_points_are_rows_of_two_numbers(finished: Finished) -> None:
    finished.said("csv")
    points, raw, other = (
        np.loadtxt(finished.path(name) / "points.csv", delimiter=",")
        for name in ("points", "points raw", "points 9")
    )  # fmt: skip
    assert points.shape == raw.shape == (12, 2) and other.shape == (100, 2)
    assert not np.allclose(points, raw) and np.abs(points - raw).max() < 1
    assert not np.allclose(points, other[:12])
    finished.said("map")
    assert picture(finished.path("map.png")).shape == (512, 512, 3)


# evaluate.py


def final(run: Path) -> dict[str, dict[str, Any]]:
    return [record["values"] for record in read_records(run / "metrics.jsonl") if record["kind"] == "scores"][-1]


def timeless(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {**score, "seconds": 0} for name, score in scores.items()}


def test_the_runs_own_scores_come_out_again(finished: Finished) -> None:
    said, expected = finished.said("scores").out.splitlines(), final(finished.points)
    again = finished.scores("scores.json")
    assert timeless(again) == timeless(expected) and "modes_captured" in again
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said[4:]]
    for row, (name, record) in zip(cells, expected.items(), strict=True):
        assert row[0] == f"{name} {'↑' if record['higher_is_better'] else '↓'}"
        assert (row[1], row[3]) == (f"{record['value']:.5g}", f"{record['floor']:.4g}")
    assert said[0] == "../moved/a/points: ema weights after 320 images"


def test_checkpoints_have_a_row_each(finished: Finished) -> None:
    said, rows = finished.said("checkpoints").out, finished.rows("checkpoints.json")
    assert [(row["step"], row["images"], row["weights"]) for row in rows] == [(15, 240, "ema"), (20, 320, "ema")]
    assert timeless(rows[1]["scores"]) == timeless(final(finished.points)) != timeless(rows[0]["scores"])
    assert "points/checkpoints/step-000000015.pt" in said and said.count(" 320 |") == 1
    assert timeless(finished.scores("raw checkpoint.json")) == timeless(finished.scores("raw.json"))


def test_broken_runs_of_a_sweep_do_not_keep_the_others_from_being_scored(finished: Finished) -> None:
    done, rows = finished.done["sweep"], finished.rows("sweep.json")
    assert done.code == 1 and "| ../sweep/whole |" in done.out and "truncated" not in done.out
    assert done.lines[0] == "evaluate.py: ../sweep/stopped: not scored: stopped: SIGTERM"
    assert done.lines[1].startswith(
        "evaluate.py: ../sweep/truncated: not scored: ../sweep/truncated/generator.pt: damaged"
    )
    assert [(Path(row["target"]).name, row["error"] is None) for row in rows] == [
        ("stopped", False), ("truncated", False), ("whole", True),
    ]  # fmt: skip
    score = rows[2]["scores"]["reverse_kl"]
    assert score["draws"] == 2 and score["interval"][0] < score["value"] < score["interval"][1]


def test_the_held_out_part_can_be_compared_with(finished: Finished) -> None:
    finished.said("held out")
    score = finished.scores("held out.json")["reverse_kl"]
    assert (score["split"], score["n_floor"], score["batch_size"]) == ("held_out", 64, 16)
    assert score["floor"] != finished.scores("scores.json")["reverse_kl"]["floor"]


def test_other_latents_weights_and_numbers_give_other_scores(finished: Finished) -> None:
    own, seeded, raw = (finished.scores(f"{name}.json") for name in ("scores", "seeded", "raw"))
    assert (seeded["reverse_kl"]["n_fake"], seeded["reverse_kl"]["seed"]) == (32, 5)
    assert (own["reverse_kl"]["n_fake"], own["reverse_kl"]["seed"]) == (64, 3)
    assert (own["reverse_kl"]["weights"], raw["reverse_kl"]["weights"]) == ("ema", "raw")
    assert seeded["reverse_kl"]["value"] != own["reverse_kl"]["value"]


def test_metric_and_extractor_can_be_chosen_after_the_run(finished: Finished) -> None:
    finished.said("fid")
    (record,) = finished.scores("fid.json").values()
    assert record["extractor"] == "pixels" and (record["n_real"], record["n_fake"]) == (10_000, 80)
    value, floor = record["value"], record["floor"]
    assert isinstance(value, float) and isinstance(floor, float) and value > 2 * floor > 0


# mistakes


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no run", "sample.py: nowhere: no generator.pt; give a run directory"),
        ("truncated", "sample.py: ../truncated/generator.pt: damaged: truncated"),
        ("no raw", "sample.py: ../empty: no checkpoint"),
        ("no run scores", "evaluate.py: nowhere: no such file or folder"),
        ("no checkpoint", "evaluate.py: ../moved/a/points: no checkpoint in 1000:; there is 15, 20"),
        ("two references", "evaluate.py: --reference and --dataset both say what to compare with"),
        ("no key", "evaluate.py: evaluation.batchsize=3: no such key; expected key=value"),
        ("truncated scores", "evaluate.py: ../truncated/generator.pt: damaged: truncated"),
        ("no metric", "evaluate.py: no metric called fidd; there is "),
        ("no extractor", "evaluate.py: no extractor called pixel; there is classifier, "),
        ("unfit", "evaluate.py: metric modes needs a mixture with known modes"),
    ],
)
def test_a_mistake_is_one_line(name: str, said: str, finished: Finished) -> None:
    done = finished.done[name]
    assert done.code == 1 and done.out == ""
    assert len(done.lines) == 1 and done.err.startswith(said), done.err


def test_an_impossible_count_is_a_mistake_in_the_command(finished: Finished) -> None:
    done = finished.done["no count"]
    assert done.code == 2 and done.lines[-1].endswith("--count 0: must be 1 or more")


@pytest.mark.parametrize("name", ["prepare", "train", "sample", "evaluate", "compare"])
def test_scripts_explain_themselves(name: str, finished: Finished) -> None:
    assert finished.said(f"help {name}").out.startswith("usage: ")

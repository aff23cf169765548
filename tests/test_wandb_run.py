"""What whole runs leave in W&B's own files, without a key or a network, against what metrics.jsonl says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_experiments.logging.records import read_records
from gan_experiments.logging.status import State, read_status
from processes import Done, gan_train, run_in_turn
from tiny import TINY
from wandb_reader import RunFile, read_finished_run, rows

POINTS = [*(line for line in TINY if not line.startswith("logger")), "regularizer=[r1]"]
IMAGES = [
    "schedule.images=null", "schedule.steps=4", "schedule.batch_size=16", "model.generator.width=2",
    "model.discriminator.width=2", "metric=none", "samples.count=4", "samples.every=32", "log.every=32",
    "regularizer=[r1,r2]", "loss=hinge", "schedule=ttur",
]  # fmt: skip
NAMES = [
    "logger.project=ours",
    "logger.group=losses",
    "logger.tags=[first,ring]",
    "logger.name=a b",
    "logger.job_type=train",
]
# the signal comes in the middle of step 8 of 20
STOPPED = """
import signal
from gan_experiments.trainer import Trainer
step = Trainer.step
def stopping(self):
    if self.step_count == 7:
        os.kill(os.getpid(), signal.SIGTERM)
    step(self)
Trainer.step = stopping
"""
KEYS = {
    "discriminator/adversarial", "generator/adversarial", "discriminator/r1", "discriminator/gradient_norm",
    "generator/gradient_norm", "slope/reals", "slope/fakes", "accuracy/train", "accuracy/held_out",
    "accuracy/generated", "discriminator/probability_real", "discriminator/probability_fake", "discriminator/lr",
    "generator/lr", "progress/images_per_second", "progress/images",
}  # fmt: skip


class Runs:
    """Runs in W&B's files: one stopped and continued, one of images, and a sweep whose second job diverges."""

    def __init__(self, home: Path) -> None:
        self.home = home
        points = [*POINTS, *NAMES, "logger.mode=offline", "run.dir=points", "run.seed=2"]
        sweep = [*POINTS, "logger.mode=offline", "run.dir=sweep", "schedule.discriminator.optimizer.lr=1e-3,1e30"]
        self.done: dict[str, Done] = run_in_turn(
            {
                "stopped": gan_train(*points, cwd=home, prelude=STOPPED),
                "continued": gan_train(*points, cwd=home),
                "images": gan_train(*IMAGES, "logger.mode=auto", "run.dir=images", cwd=home),
                "sweep": gan_train("-m", *sweep, cwd=home),
            },
            home,
            # a server that nobody may ask: without a key nothing is sent anywhere
            WANDB_BASE_URL="http://127.0.0.1:9",
        )

    def files(self, run: str) -> list[RunFile]:
        """W&B's files of the run in this folder, oldest first."""
        return [read_finished_run(folder) for folder in self.folders(run)]

    def folders(self, run: str) -> list[Path]:
        return sorted((self.home / run / "wandb").glob("offline-run-*"), key=lambda folder: folder.stat().st_mtime_ns)

    def records(self, run: str, kind: str) -> list[dict[str, Any]]:
        """What metrics.jsonl says, as the rows that W&B should have."""
        found = [record for record in read_records(self.home / run / "metrics.jsonl") if record["kind"] == kind]
        return [{**record["values"], "progress/images": record["images"]} for record in found]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def trained(runs: list[RunFile]) -> list[dict[str, Any]]:
    """Rows of the training."""
    return [row for run in runs for row in rows(run) if "generator/adversarial" in row]


def test_every_record_is_a_row_with_the_same_numbers(runs: Runs) -> None:
    assert [runs.done[name].code for name in ("stopped", "continued", "images")] == [143, 0, 0], runs.done
    for name, count in (("points", 5), ("images", 2)):
        records, found = runs.records(name, "train"), trained(runs.files(name))
        assert found == records and len(records) >= count
        assert [row["progress/images"] for row in found] == sorted({row["progress/images"] for row in found})
        assert all(math.isfinite(value) for row in found for value in row.values())
        assert set(found[-1]) >= KEYS
    assert "discriminator/r2" in trained(runs.files("images"))[0]
    assert trained(runs.files("images"))[0]["discriminator/lr"] == 4e-4


def test_scores_are_rows_and_summary(runs: Runs) -> None:
    records = runs.records("points", "scores")
    first, second = runs.files("points")
    found = [row for run in (first, second) for row in rows(run) if "score/modes_captured" in row]
    assert [row["progress/images"] for row in found] == [record["progress/images"] for record in records] == [160, 320]
    for name in ("modes_captured", "high_quality_share", "reverse_kl", "binned_kl"):
        for row, record in zip(found, records, strict=True):
            assert row[f"score/{name}"] == record[name]["value"]
            assert row[f"score/{name}_floor"] == record[name]["floor"]
        values, summary = [record[name]["value"] for record in records], second.summary
        best = max(values) if records[0][name]["higher_is_better"] else min(values)
        assert (summary[f"score/{name}_best"], summary[f"score/{name}_last"]) == (best, values[-1])
        assert summary[f"score/{name}_record"]["n_fake"] == 64
    assert second.summary["reason"] == "completed" and second.exit_code == 0


def test_a_continued_run_is_the_same_run(runs: Runs) -> None:
    first, second = runs.files("points")
    (run_id,) = {first.run.run_id, second.run.run_id}
    assert run_id == (runs.home / "points" / "run_id").read_text().strip()
    assert (
        max(row["progress/images"] for row in rows(first)) <= 128 < min(row["progress/images"] for row in rows(second))
    )
    assert "SIGTERM at 128 images" in first.summary["reason"] and first.exit_code == 1
    for file in (first, second):
        run = file.run
        assert (run.project, run.run_group, run.display_name, run.job_type) == ("ours", "losses", "a b", "train")
        assert list(run.tags) == ["first", "ring"]


def test_the_configuration_is_the_runs(runs: Runs) -> None:
    for name in ("points", "images"):
        expected = json.loads((runs.home / name / "config.json").read_text())
        for file in runs.files(name):
            assert {key: value for key, value in file.config.items() if key != "_wandb"} == expected
        assert {"run", "model", "loss", "regularizer", "dataset", "schedule", "metric", "runtime"} <= set(expected)
    (images,) = runs.files("images")
    assert images.config["loss"]["_target_"].endswith("Hinge") and images.config["run"]["seed"] == 0


def test_the_axis_is_images_seen(runs: Runs) -> None:
    for file in (*runs.files("points"), *runs.files("images")):
        axis, everything = file.metrics
        assert axis.name == "progress/images" and everything.glob_name == "*"
        assert everything.step_metric == "progress/images"


def test_pictures_have_the_pixels_of_those_on_disk(runs: Runs) -> None:
    for name in ("points", "images"):
        shown = {}
        for folder, file in zip(runs.folders(name), runs.files(name), strict=True):
            for row in rows(file):
                if "samples" in row:
                    shown[row["progress/images"]] = (folder / "files" / row["samples"]["path"], row["samples"])
        pictures = {int(re.sub(r"\D", "", path.stem)): path for path in (runs.home / name / "samples").iterdir()}
        assert shown.keys() == pictures.keys() and len(pictures) == 2
        for images, (path, details) in shown.items():
            with Image.open(path) as theirs, Image.open(pictures[images]) as ours:
                assert np.array_equal(np.asarray(theirs), np.asarray(ours)) and theirs.mode == ours.mode
                assert (details["width"], details["height"], details["format"]) == (*ours.size, "png")


def test_without_a_key_one_line_tells_how_to_sync(runs: Runs) -> None:
    (line,) = [line for line in runs.done["images"].lines if "W&B" in line]
    (folder,) = runs.folders("images")
    reason = "no API key; `wandb login` stores one"
    assert line == f"W&B: offline ({reason}); to upload later: wandb sync {folder.relative_to(runs.home)}"
    assert not any(line.startswith("wandb") for done in runs.done.values() for line in done.lines)


def test_jobs_of_a_sweep_are_runs_of_their_own(runs: Runs) -> None:
    (healthy,), (diverged,) = runs.files("sweep/0"), runs.files("sweep/1")
    assert healthy.run.run_id != diverged.run.run_id
    rates = [file.config["schedule"]["discriminator"]["optimizer"]["lr"] for file in (healthy, diverged)]
    assert rates == [1e-3, 1e30]
    assert healthy.exit_code == 0 and trained([healthy]) == runs.records("sweep/0", "train")
    assert len(trained([healthy])) == 5


def test_a_diverged_run_fails_and_names_who(runs: Runs) -> None:
    (diverged,) = runs.files("sweep/1")
    status = read_status(runs.home / "sweep" / "1" / "status.json")
    assert runs.done["sweep"].code == 1 and diverged.exit_code == 1
    assert status is not None and status.state is State.FAILED
    assert re.match(r"(discriminator|generator)/\w+ became NaN or infinite at step \d", status.reason)
    assert diverged.summary["reason"] == status.reason
    assert "Traceback" not in runs.done["sweep"].err and f"job 1 failed: {status.reason}" in runs.done["sweep"].err

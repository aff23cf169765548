"""Run directories that were damaged, emptied or can't be written: one line, and nothing in them is lost."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bad_inputs import Bad, answer, check_clean
from processes import Command, Workshop, gan_train
from run_damage import Damage, checkpoint, flip, keys, lines, newest, swap, text
from tiny import TINY

HALF = "import gan_experiments.trainer as t\nt.Trainer.finished = property(lambda self: False)\n" \
       "t.Trainer.ending = property(lambda self: self.step_count >= 12)"  # fmt: skip
"""Ends a run of 20 steps after 12 of them, as if somebody had asked it to."""


OLDER = "delete step-000000012.pt to go on from step-000000010.pt (160 images)"


@dataclass(frozen=True)
class Case:
    """What is done to the directory of a run that was stopped, and the words that the answer must hold."""

    damage: Damage
    says: Sequence[str]
    script: str | None = None
    arguments: Sequence[str] = ()


def drop(*names: str) -> Damage:
    """Delete files or folders."""

    def make(run: Path) -> None:
        for name in names:
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def both(*damages: Damage) -> Damage:
    """Several at once."""
    return lambda run: [damage(run) for damage in damages]


def second(run: Path) -> None:
    """Flip a bit in the checkpoint before the newest."""
    flip(sorted((run / "checkpoints").glob("step-*.pt"))[-2])


def cut(run: Path) -> None:
    """Leave half of the newest checkpoint."""
    newest(run).write_bytes(newest(run).read_bytes()[: newest(run).stat().st_size // 2])


CASES = {
    "no checkpoints": Case(drop("checkpoints"), ["run.dir=run", "no checkpoint to go on from", "another run.dir"]),
    "no checkpoints, no status": Case(drop("checkpoints", "status.json"), ["no checkpoint to go on from"]),
    "no checkpoints, no generator": Case(drop("checkpoints", "generator.pt", "best.pt"), ["no checkpoint to go on"]),
    "no checkpoints, no records": Case(drop("checkpoints", "metrics.jsonl"), ["no checkpoint to go on from"]),
    "no config": Case(drop("config.json"), ["run", "no config.json"]),
    "a flipped bit": Case(lambda run: flip(newest(run)), ["step-000000012.pt", "damaged", "SHA-256", OLDER]),
    "a flipped bit at the end": Case(lambda run: flip(newest(run), 1.0), ["step-000000012.pt", "damaged"]),
    "a flipped bit in the mark": Case(lambda run: flip(newest(run), 1 - 70 / newest(run).stat().st_size), ["damaged"]),
    "flipped bits in all": Case(both(lambda run: flip(newest(run)), second),
                                ["step-000000012.pt", "no other to go on from", "step-000000010.pt"]),
    "a cut checkpoint": Case(cut, ["step-000000012.pt", "truncated", "step-000000010.pt (160 images)"]),
    "an empty checkpoint": Case(lambda run: newest(run).write_bytes(b""), ["step-000000012.pt"]),
    "a folder for a checkpoint": Case(lambda run: swap(f"checkpoints/{newest(run).name}")(run), ["step-000000012.pt"]),
    "a checkpoint without format": Case(checkpoint(format=None), ["step-000000012.pt", "no format"]),
    "a checkpoint of a later format": Case(checkpoint(format=99), ["step-000000012.pt", "format 99"]),
    "a checkpoint without state": Case(checkpoint(state=None), ["step-000000012.pt", "no state"]),
    "a checkpoint of no parts": Case(checkpoint(state={}), ["step-000000012.pt", "doesn't fit this run's parts"]),
    "a checkpoint of words": Case(checkpoint(records="many"), ["step-000000012.pt", "wrong records"]),
    "a checkpoint of bad JSON": Case(checkpoint(config="{"), ["step-000000012.pt", "config"]),
    "a generator for a checkpoint": Case(lambda run: shutil.copy(run / "generator.pt", newest(run)),
                                         ["step-000000012.pt", "not a checkpoint"]),
    "checkpoints a file": Case(swap("checkpoints"), ["run/checkpoints", "is a file"]),
    "checkpoints a dead link": Case(both(drop("checkpoints"), lambda run: (run / "checkpoints").symlink_to("nowhere")),
                                    ["run/checkpoints", "link to nothing"]),
    "samples a file": Case(swap("samples"), ["run/samples", "is a file"]),
    "lock a folder": Case(swap(".lock"), ["run/.lock", "is a folder"]),
    "log a folder": Case(swap("gan-train.log"), ["run.dir", "gan-train.log"]),
    "status a folder": Case(swap("status.json"), ["run/status.json", "is a folder"]),
    "status of words": Case(text("status.json", "running"), ["run/status.json"]),
    "status empty": Case(text("status.json", ""), ["run/status.json"]),
    "status binary": Case(text("status.json", b"\xff\x00"), ["run/status.json"]),
    "status deep": Case(text("status.json", "[" * 100_000), ["run/status.json", "without end"]),
    "status completed, images of text": Case(keys("status.json", state="completed", images="many"),
                                             ["run/status.json", "images is 'many'"]),
    "status of no state": Case(keys("status.json", state="asleep"), ["run/status.json", "asleep", "completed"]),
    "status of no time": Case(keys("status.json", updated="noon"), ["run/status.json", "noon"]),
    "status of no scores": Case(keys("status.json", scores={"modes": "high"}), ["run/status.json", "modes"]),
    "status of a list": Case(keys("status.json", scores=[1]), ["run/status.json", "scores is [1]"]),
    "run_id binary": Case(text("run_id", b"\xff\xfe"), ["run/run_id", "delete it"]),
    "run_id empty": Case(text("run_id", ""), ["run/run_id", "delete it"]),
    "run_id a folder": Case(swap("run_id"), ["run/run_id", "is a folder"]),
    "config a list": Case(text("config.json", "[]"), ["run/config.json", "not a configuration"]),
    "config NaN": Case(text("config.json", '{"run": NaN}'), ["run/config.json", "not JSON"]),
    "config binary": Case(text("config.json", b"\xff"), ["run/config.json", "not JSON"]),
    "config empty": Case(text("config.json", "{}"), ["run/config.json", "not the configuration of a run"]),
    "records binary": Case(text("metrics.jsonl", b"\xff\x00\n" * 2000), ["run/metrics.jsonl", "not a record"]),
    "records empty": Case(text("metrics.jsonl", ""), ["run/metrics.jsonl", "0 bytes of records"]),
    "records twice": Case(lines(lambda all: [line for line in all for _ in range(2)]), ["run/metrics.jsonl"]),
    "records swapped": Case(lines(lambda all: [all[1], all[0], *all[2:]]), ["run/metrics.jsonl", "has been changed"]),
    "records without the first": Case(lines(lambda all: all[1:]), ["run/metrics.jsonl"]),
    "records of a list": Case(lines(lambda all: [b"[]\n", *all]), ["run/metrics.jsonl:1", "not a record"]),
    "records of text": Case(text("metrics.jsonl", b'{"kind": 1, "images": 1, "step": 1, "values": {}}\n' * 400),
                            ["metrics.jsonl:1", "kind is 1"]),
    "provenance of words": Case(text("provenance.json", "words"), ["run/provenance.json"]),
    "provenance a number": Case(text("provenance.json", '{"starts": 3}'), ["run/provenance.json", "no list of starts"]),
    "sample: generator flipped": Case(lambda run: flip(run / "generator.pt"),
                                      ["run/generator.pt", "damaged", "--raw"], "sample.py"),
    "sample: generator empty": Case(text("generator.pt", b""), ["run/generator.pt"], "sample.py"),
    "sample: generator of a checkpoint": Case(lambda run: shutil.copy(newest(run), run / "generator.pt"),
                                              ["run/generator.pt", "not a generator"], "sample.py"),
    "sample: no generator": Case(drop("generator.pt"), ["run", "generator.pt"], "sample.py"),
    "sample: no best": Case(drop("best.pt"), ["run", "best.pt", "checkpoint.best"], "sample.py", ["--best"]),
    "sample: best flipped": Case(lambda run: flip(run / "best.pt"), ["run/best.pt", "damaged"], "sample.py",
                                 ["--best"]),
    "sample: best and raw": Case(lambda run: None, ["--best", "--raw"], "sample.py", ["--best", "--raw"]),
    "sample: raw flipped": Case(lambda run: flip(newest(run)), ["step-000000012.pt", "damaged"], "sample.py",
                                ["--raw"]),
    "evaluate: config a list": Case(text("config.json", "[]"), ["run/config.json"], "evaluate.py"),
    "evaluate: best and checkpoints": Case(lambda run: None, ["--best"], "evaluate.py",
                                           ["--best", "--checkpoints", "all"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def stopped(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run with two checkpoints that was stopped before its end."""
    home = tmp_path_factory.mktemp("stopped")
    done = workshop.run(gan_train(*TINY, "run.dir=run", cwd=home, prelude=HALF))
    assert done.code == 0, done.err
    keys("status.json", state="stopped", objective=None)(home / "run")
    assert len(list((home / "run" / "checkpoints").glob("step-*.pt"))) == 2
    return home / "run"


def contents(run: Path) -> dict[str, bytes]:
    """All that a run has made, without what says how the last attempt went."""
    kept = {path for path in run.rglob("*") if path.is_file() and path.name not in ("status.json", "gan-train.log")}
    return {str(path.relative_to(run)): path.read_bytes() for path in kept}


@pytest.mark.parametrize("name", CASES)
def test_bad_run_directories(name: str, stopped: Path, workshop: Workshop, tmp_path: Path) -> None:
    case, run = CASES[name], tmp_path / "run"
    shutil.copytree(stopped, run)
    case.damage(run)
    before = contents(run)
    own = ["run", *case.arguments] if case.script else case.arguments
    answer(Bad(own, case.says, script=case.script), workshop, tmp_path)
    assert {path: content for path, content in contents(run).items() if path in before} == before


PLACES = {
    "a file": Bad(["run.dir=afile"], ["run.dir", "afile"], lambda cwd: (cwd / "afile").touch()),
    "below a file": Bad(["run.dir=afile/x"], ["run.dir", "afile/x"], lambda cwd: (cwd / "afile").touch()),
    "a device": Bad(["run.dir=/dev/null"], ["run.dir", "/dev/null"]),
    "a place of the kernel": Bad(["run.dir=/proc/x"], ["run.dir", "/proc/x"]),
    "too long": Bad([f"run.dir={'n' * 300}"], ["run.dir", "nnn", "too long"]),
    "somebody's configuration": Bad([], ["run/config.json", "not the configuration of a run"],
                                    lambda cwd: ((cwd / "run").mkdir(), (cwd / "run/config.json").write_text("{}"))),
    "somebody's generator": Bad([], ["run.dir=run", "no config.json"],
                                lambda cwd: ((cwd / "run").mkdir(), (cwd / "run/generator.pt").write_text("mine"))),
    "best of nothing": Bad(["checkpoint.best=fid"], ["checkpoint.best=fid", "modes_captured"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_bad_places(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(PLACES[name], workshop, tmp_path)


def test_a_count_of_threads_that_would_end_the_process_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    command = Command(["gan-train", *TINY, "run.dir=run", "runtime.threads=100000"], tmp_path)
    check_clean(workshop.run(command), ["runtime.threads=100000", "at most", "cores"])


def test_a_sweep_in_the_place_of_a_file_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    command = Command(["gan-train", "-m", *TINY, "run.dir=afile", "run.seed=0,1"], tmp_path)
    check_clean(workshop.run(command), ["run.dir", "afile"])


def test_a_log_that_is_full_is_said_once_and_the_run_goes_on(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gan-train.log").symlink_to("/dev/full")
    done = workshop.run(gan_train(*TINY, "run.dir=run", cwd=tmp_path))
    assert done.code == 0 and "Traceback" not in done.err
    assert done.err.count("gan-train.log: can't be written") == 1


def test_a_current_folder_in_which_nothing_can_be_made(workshop: Workshop) -> None:
    base = [line for line in TINY if not line.startswith("run.dir")]
    answer(Bad(base, ["run.dir", "outputs"], tiny=False), workshop, Path("/proc"))

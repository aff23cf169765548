"""What a run leaves: nothing is erased, killed runs are told apart, the best generator and its origin are kept."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from gan_experiments import checkpoint
from gan_experiments.analysis.sweep import read_run
from gan_experiments.checkpoint import Checkpoints
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.inference import load_generator
from gan_experiments.logging import provenance
from gan_experiments.logging.atomic import remove_dead, write_atomic
from gan_experiments.logging.lock import read_standing
from gan_experiments.logging.records import read_records
from gan_experiments.logging.sealed import damage
from gan_experiments.logging.status import State, Status, read_status
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.rundir import RunDirectory
from gan_experiments.signals import Interrupted, stopping_on_signals
from gan_experiments.trainer import Trainer
from run_damage import flip, keys, newest
from tiny import TINY

Compose = Callable[..., DictConfig]


@contextmanager
def stopped_after(steps: int, monkeypatch: pytest.MonkeyPatch, hard: bool = False) -> Iterator[None]:
    """Within this, training ends after so many steps: by SIGTERM, or with `hard` as a killed process does."""
    step = Trainer.step

    def wrapped(self: Trainer) -> None:
        if self.step_count == steps and hard:
            raise Killed
        if self.step_count == steps - 1 and not hard:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", wrapped)
        if hard:
            patch.setattr("gan_experiments.logging.status.Status.update", silenced)
        with pytest.raises(Killed if hard else Interrupted):
            yield


class Killed(BaseException):
    """Stands for the end of the process."""


def silenced(self: object, state: State | None = None, **changes: object) -> None:
    """A status that says nothing when the process ends."""
    if state in (None, State.RUNNING):
        UPDATE(self, state, **changes)  # type: ignore[arg-type]


UPDATE = Status.update


def kinds(directory: Path, name: str = "metrics.jsonl") -> list[tuple[str, int]]:
    """What was recorded when."""
    return [(record["kind"], record["images"]) for record in read_records(directory / name)]


# nothing is erased


def test_records_without_checkpoints_are_never_emptied(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = composed(*TINY), tmp_path / "run"
    with stopped_after(12, monkeypatch):
        run(config, home)
    before = (home / "metrics.jsonl").read_bytes()
    moved = (home / "checkpoints").rename(tmp_path / "moved")
    for _ in range(2):
        with pytest.raises(UserError, match=r"192 images left, but no checkpoint.* put its step-.*another run.dir"):
            run(config, home)
        assert (home / "metrics.jsonl").read_bytes() == before
    (home / "status.json").unlink()
    with pytest.raises(UserError, match="no checkpoint to go on from"):
        run(config, home)
    moved.rename(home / "checkpoints")  # the first of the two ways
    assert run(config, home) is not None
    assert (home / "metrics.jsonl").read_bytes().startswith(before)


def test_a_run_killed_before_its_first_checkpoint_begins_anew_beside_its_records(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = composed(*TINY, "checkpoint.every=10000", "evaluation.every=64"), tmp_path / "run"
    for attempt in (1, 2):
        with stopped_after(9, monkeypatch, hard=True):
            run(config, home)
        standing = read_standing(home)
        assert standing is not None and (standing.state, standing.saved) == (State.LOST, 0)
        assert kinds(home)
        assert attempt == 1 or (home / "metrics-1.jsonl").exists()
    early = (home / "metrics.jsonl").read_bytes()
    assert run(config, home) is not None
    assert (home / "metrics-2.jsonl").read_bytes() == early and (home / "best-2.pt").exists()
    assert kinds(home)[0] == ("train", 64) and kinds(home)[-1][1] == 320


def test_what_was_recorded_after_a_checkpoint_stays_until_the_run_goes_on(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = composed(*TINY), tmp_path / "run"
    with stopped_after(9, monkeypatch, hard=True):
        run(config, home)
    before = (home / "metrics.jsonl").read_bytes()
    assert kinds(home)[-1] == ("train", 128)  # the checkpoint is of 80 images
    monkeypatch.setattr("gan_experiments.experiment.add_start", fail)
    with pytest.raises(UserError, match="just before the first step"):
        run(config, home)
    assert (home / "metrics.jsonl").read_bytes() == before


def fail(*arguments: object) -> None:
    raise UserError("just before the first step")


def test_a_lost_status_of_a_finished_run_is_made_again_from_its_records(composed: Compose, tmp_path: Path) -> None:
    config, home = composed(*TINY, "run.objective=reverse_kl"), tmp_path / "run"
    first = run(config, home)
    (home / "status.json").unlink()
    assert run(config, home) == first and first is not None
    status = read_status(home / "status.json")
    assert status is not None and status.state is State.COMPLETED and status.scores["reverse_kl"]["value"] == first


# hashes


@pytest.mark.parametrize("place", [0.0, 0.01, 0.2, 0.5, 0.9, 0.97, 0.99, 0.995, 1.0])
def test_any_flipped_bit_is_noticed(place: float, tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.pt"
    facts = {"config": "{}", "images": 1, "step": 1, "data": "d", "runtime": "r", "records": 0}
    checkpoint.save(path, "checkpoint", {**facts, "state": {"weights": torch.arange(1000.0)}})
    assert damage(path) == "" and checkpoint.load(path, "checkpoint")["images"] == 1
    flip(path, place)
    with pytest.raises(UserError, match="step-000000001.pt: damaged"):
        checkpoint.load(path, "checkpoint")


def test_files_of_before_there_were_hashes_load_and_are_checked_by_their_own_sums(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.pt"
    facts = {"format": 1, "kind": "gan-experiments/checkpoint", "config": "{}", "images": 1, "step": 1, "data": "d"}
    torch.save({**facts, "runtime": "r", "records": 0, "state": {"weights": torch.arange(10_000.0)}}, path)
    assert torch.equal(checkpoint.load(path, "checkpoint")["state"]["weights"], torch.arange(10_000.0))
    flip(path)
    with pytest.raises(UserError, match="damaged: the sum of"):
        checkpoint.load(path, "checkpoint")


def test_a_full_disk_is_one_line_and_keeps_the_former_file(tmp_path: Path) -> None:
    code = (
        "import resource, sys, torch; from pathlib import Path; from gan_experiments import checkpoint\n"
        "path = Path(sys.argv[1]); facts = dict(config='{}', images=1, step=1, data='d', runtime='r', records=0)\n"
        "checkpoint.save(path, 'checkpoint', {**facts, 'state': {}})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: checkpoint.save(path, 'checkpoint', {**facts, 'state': {'w': torch.zeros(1_000_000)}})\n"
        "except checkpoint.UserError as error: print(error)\n"
        "print(checkpoint.load(path, 'checkpoint')['state'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "step-1.pt")], capture_output=True, text=True, check=True
    )
    assert "cannot write" in done.stdout and "File too large" in done.stdout and done.stdout.endswith("{}\n")
    assert os.listdir(tmp_path) == ["step-1.pt"]


def test_a_checkpoint_of_before_there_was_a_best_is_continued(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = composed(*TINY, "checkpoint.best=null"), tmp_path / "run"
    with stopped_after(12, monkeypatch):
        run(config, home)
    content = torch.load(newest(home), weights_only=True)
    del content["records_sha256"], content["spec"]
    content["format"] = 1
    torch.save(content, newest(home))
    assert not (home / "best.pt").exists()
    assert run(composed(*TINY, "checkpoint.best=reverse_kl"), home) is not None
    assert checkpoint.load(home / "best.pt", "generator")["images"] == 320  # the only evaluation that was left


# killed processes


def test_temporaries_of_killed_writers_go_when_the_run_goes_on(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = composed(*TINY), tmp_path / "run"
    with stopped_after(12, monkeypatch):
        run(config, home)
    here = [home / "checkpoints" / ".step-000000015.pt.1.tmp", home / ".generator.pt.999999.tmp",
            home / f".status.json.{os.getpid()}.tmp", home / ".mine.txt"]  # fmt: skip
    for path in here:
        path.write_bytes(b"half")
    run(config, home)
    assert [path.exists() for path in here] == [False, False, False, True]


def test_only_dead_writers_temporaries_are_removed_from_shared_folders(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = {"dead": f".a.{ended.pid}.tmp", "alive": f".a.{os.getpid()}.tmp", "elsewhere": ".a.1-00000000.tmp",
             "long gone elsewhere": ".b.1-00000000.tmp", "other": ".vimrc.tmp"}  # fmt: skip
    for name in names.values():
        (tmp_path / name).write_bytes(b"xy")
    old = time.time() - 3600
    os.utime(tmp_path / names["long gone elsewhere"], (old, old))
    assert remove_dead(tmp_path) == 4
    left = {what for what, name in names.items() if (tmp_path / name).exists()}
    assert left == {"alive", "elsewhere", "other"}


def test_names_as_long_as_a_file_system_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)
    write_atomic(path, "here")
    assert path.read_text() == "here"


def test_a_killed_run_is_lost_and_says_how_to_continue(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = composed(*TINY), tmp_path / "sweep" / "0"
    with stopped_after(12, monkeypatch, hard=True):
        run(config, home, "gan-train -m some=thing")
    raw, seen = read_status(home / "status.json"), read_run(home)
    assert raw is not None and raw.state is State.RUNNING and raw.host == socket.gethostname()
    assert seen.state is State.LOST and "to continue: gan-train -m some=thing" in seen.reason
    with open(home / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_run(home).state is State.RUNNING
    assert read_run(home).state is State.LOST
    # another machine's process can't be looked at: only a long silence tells
    keys("status.json", host="elsewhere", updated=datetime.now(UTC).isoformat())(home)
    assert read_run(home).state is State.RUNNING
    keys("status.json", updated=(datetime.now(UTC) - timedelta(days=1)).isoformat())(home)
    assert read_run(home).state is State.LOST
    assert run(config, home) is not None
    assert read_run(home).state is State.COMPLETED


def test_looking_whether_a_run_goes_on_does_not_stop_one_from_starting(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    reader = open(tmp_path / ".lock")  # noqa: SIM115
    fcntl.flock(reader, fcntl.LOCK_SH)
    waiting = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from gan_experiments.logging.lock import Lock\n"
         "print('ready', flush=True); Lock(Path(sys.argv[1]))", str(tmp_path)], stdout=subprocess.PIPE,
    )  # fmt: skip
    assert waiting.stdout is not None and waiting.stdout.readline() == b"ready\n"
    time.sleep(0.05)
    reader.close()
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0


def test_what_a_shell_lets_its_background_commands_ignore_stops_nothing() -> None:
    class Running:
        stop_requested = False

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping_on_signals(Running()) as caught:  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGINT)
            assert caught.number is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert caught.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


# where it came from


def test_every_start_is_noted_without_the_environment(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    config, home = composed(*TINY), tmp_path / "run"
    with stopped_after(12, monkeypatch):
        run(config, home, "gan-train this")
    run(config, home, "gan-train that")
    run(config, home, "gan-train that")  # it is complete, and nothing is started
    starts = provenance.read_starts(home)
    assert [(start["images"], start["again"]) for start in starts] == [(0, "gan-train this"), (192, "gan-train that")]
    for start in starts:
        assert start["command"] == sys.argv and start["host"] == socket.gethostname()
        assert start["device"]["torch"] == torch.__version__ and {"torch", "hydra-core"} <= start["versions"].keys()
        assert start["device"]["runtime"].startswith("runtime: cpu")
    assert "s3cret" not in (home / "provenance.json").read_text()


def test_the_commit_is_that_of_the_packages_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
        return subprocess.run(["git", *own, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git("init", "--quiet")
    assert provenance.commit_of(tmp_path) is None  # a repository, but not of this package
    (tmp_path / "src" / "gan_experiments").mkdir(parents=True)
    (tmp_path / "src" / "gan_experiments" / "a.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "a")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert provenance.commit_of(tmp_path) is not None and provenance.is_changed(tmp_path) is False
    (tmp_path / "notes.txt").write_text("mine")
    assert provenance.is_changed(tmp_path) is False
    (tmp_path / "src" / "gan_experiments" / "b.py").write_text("b = 1\n")
    assert provenance.is_changed(tmp_path) is True
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.commit_of(tmp_path) is None


# the best generator


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the scores of evaluations, by the images seen."""
    evaluate = Evaluator.evaluate

    def put(**values: dict[int, float]) -> None:
        def wrapped(self: Evaluator, source: object, weights: str, images: int, step: int, *rest: object,
                    **more: object) -> object:  # fmt: skip
            scores = evaluate(self, source, weights, images, step, *rest, **more)  # type: ignore[arg-type]
            for name, own in values.items():
                object.__setattr__(scores[name], "value", own[images])
            return scores

        monkeypatch.setattr(Evaluator, "evaluate", wrapped)

    return put


OFTEN = [*TINY, "evaluation.every=80", "schedule.ema.half_life=100"]
NAN = float("nan")


@pytest.mark.parametrize(
    ("score", "values", "best"),
    [
        ("reverse_kl", {80: 3.0, 160: 1.0, 240: 2.0, 320: 1.0}, 160),  # lower is better, the first of equal ones
        ("modes_captured", {80: 3.0, 160: 1.0, 240: 7.0, 320: 7.0}, 240),  # higher is better
        ("reverse_kl", {80: NAN, 160: 5.0, 240: NAN, 320: float("-inf")}, 160),
    ],
)
def test_best_is_the_generator_of_the_best_score(
    score: str, values: dict[int, float], best: int, composed: Compose, scored: Callable[..., None], tmp_path: Path
) -> None:
    scored(**{score: values})
    run(composed(*OFTEN, f"checkpoint.best={score}"), tmp_path / "run")
    saved = checkpoint.load(tmp_path / "run" / "best.pt", "generator")
    assert (saved["images"], saved["score"]["images"], saved["weights"]) == (best, best, "ema")
    assert (saved["score"]["name"], saved["score"]["value"]) == (score, values[best])
    cut = composed(*OFTEN, f"checkpoint.best={score}", f"run.dir={tmp_path / 'cut'}")
    trainer_steps = best // 16
    with pytest.MonkeyPatch.context() as patch, stopped_after(trainer_steps, patch):
        run(cut, tmp_path / "cut")
    then = load_generator(tmp_path / "cut")  # the averaged weights at that time
    kept = load_generator(tmp_path / "run", best=True)
    assert torch.equal(then.sample(8), kept.sample(8)) and kept.images == best
    assert f"best {score} ({values[best]:.4g})" in kept.origin


@pytest.mark.parametrize("hard", [False, True])
def test_a_continued_run_has_the_same_best(
    hard: bool, composed: Compose, scored: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [*OFTEN, "checkpoint.best=reverse_kl", "checkpoint.every=160"]
    scored(reverse_kl={80: 1.0, 160: 3.0, 240: 0.5, 320: 2.0})
    run(composed(*lines), tmp_path / "whole")
    with stopped_after(16, monkeypatch, hard):
        run(composed(*lines), tmp_path / "parts")
    scored(reverse_kl={80: 1.0, 160: 3.0, 240: 2.5, 320: 2.0})  # as another machine may have it
    run(composed(*lines), tmp_path / "parts")
    whole, parts = (checkpoint.load(tmp_path / name / "best.pt", "generator") for name in ("whole", "parts"))
    # stopped, the best of 240 images was in the checkpoint; killed, it was found and lost again with all after 160
    assert (whole["images"], parts["images"]) == (240, 80 if hard else 240)
    state = Checkpoints(tmp_path / "parts" / "checkpoints").load_latest()
    assert state is not None
    (kept,) = (value for name, value in state["state"]["observers"].items() if name.endswith(" Best"))
    assert kept["record"]["images"] == parts["images"]
    assert all(torch.equal(kept["weights"][0][name], value) for name, value in parts["generator"][0].items())


def test_the_best_of_raw_weights_are_raw_ones(composed: Compose, scored: Callable[..., None], tmp_path: Path) -> None:
    scored(reverse_kl={80: 4.0, 160: 1.0, 240: 2.0, 320: 3.0})
    run(composed(*OFTEN, "evaluation.raw=true", "checkpoint.best=raw_reverse_kl"), tmp_path / "run")
    kept = load_generator(tmp_path / "run", best=True)
    assert (kept.weights, kept.images) == ("raw", 160)


def test_without_a_name_the_objective_decides(composed: Compose, scored: Callable[..., None], tmp_path: Path) -> None:
    scored(reverse_kl={80: 4.0, 160: 1.0, 240: 2.0, 320: 3.0}, modes_captured={80: 1.0, 160: 2.0, 240: 8.0, 320: 3.0})
    for objective, images in (("null", 240), ("reverse_kl", 160)):
        home = tmp_path / objective
        run(composed(*OFTEN, f"run.objective={objective}", f"run.dir={home}"), home)
        assert checkpoint.load(home / "best.pt", "generator")["images"] == images
    run(composed(*OFTEN, "metric=none"), tmp_path / "unscored")
    assert not (tmp_path / "unscored" / "best.pt").exists()


def test_directories_can_be_entered_again_after_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text("?")
    with pytest.raises(UserError, match="status.json"), RunDirectory(tmp_path / "run", {"run": {}, "schedule": {}}, 2):
        pass
    (tmp_path / "run" / "status.json").unlink()
    with RunDirectory(tmp_path / "run", {"run": {}, "schedule": {}}, 2) as home:
        assert json.loads((home.path / "config.json").read_text()) == {"run": {}, "schedule": {}}

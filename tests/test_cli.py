"""The command line as a user meets it: in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_experiments import invocation
from tiny import TINY

FAST = [*TINY, "runtime.threads=1"]
NO_TORCH = "import sys; sys.modules['torch'] = None; from gan_experiments.cli import main; main()"


def gan_train(
    *arguments: str, cwd: Path, code: str | None = None, **kwargs: object
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "gan_experiments.cli"]), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(cwd)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, timeout=300
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loss=hing"], "loss=hing: no such option; did you mean hinge? Available options in 'loss': began, boundary"),
        (["model.generator.widht=3"], "model.generator.widht: no such key; did you mean model.generator.width?"),
        (["run.sede=1"], "run.sede: no such key; did you mean run.seed?"),
        (["run.seed=one"], "run.seed=one: must be a whole number"),
        (["lossy=hinge"], "lossy: there is no group or section lossy; did you mean loss?"),
        (["loss"], "loss: is not key=value; write loss=VALUE"),
        (["regularizer=r3"], "regularizer=r3: no such option; there is bcr, cr"),
        (["trick=[emma]"], "trick=emma: no such option; did you mean ema? Available options in 'trick': ada, apa"),
        (
            ["conditioning=[native,batchnorm]"],
            "batchnorm: no such option; did you mean batch_norm? Available options in 'c",
        ),
        (
            ["experiment=rign"],
            "experiment=rign: no such option; did you mean ring? Available options in 'ex",
        ),
    ],
)
def test_wrong_options_are_one_line_without_torch(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = gan_train(*arguments, cwd=tmp_path, code=NO_TORCH)
    assert done.returncode != 0
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_misspelt_key_in_an_experiment_file_is_an_error_at_composition(tmp_path: Path) -> None:
    files = {
        "root": "sampels: {every: 3}", "schedule": "schedule: {image: 100}", "nested": "model: {generator: {widht: 3}}",
        "term": "regularizer: {r1: {wieght: 3}}", "fine": "model: {generator: {hidden: [4]}}",
    }  # fmt: skip
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    for name, text in files.items():
        defaults = "defaults: [{override /model: mlp}]\n" if name == "fine" else ""
        (tmp_path / "mine" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{defaults}{text}\n")
    for name, key in {"root": "sampels", "schedule": "image", "nested": "model.generator.widht",
                      "term": "regularizer.r1.wieght"}.items():  # fmt: skip
        done = gan_train("--config-dir", "mine", f"experiment={name}", cwd=tmp_path, code=NO_TORCH)
        assert done.returncode == 1 and key in done.stderr and done.stderr.count("\n") == 1, done.stderr
    done = gan_train(
        "--config-dir", "mine", "experiment=fine", *[line for line in FAST if "hidden" not in line], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_a_run_prints_its_choices_and_leaves_its_files(tmp_path: Path) -> None:
    done = gan_train(*FAST, "run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runtime: cpu (1 threads), float32" in done.stderr
    assert "scores at 320 images: 64 samples beside 64 held-out real ones\n" in done.stderr
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left >= {
        "config.json",
        "metrics.jsonl",
        "status.json",
        "samples",
        "checkpoints",
        "generator.pt",
        "gan-train.log",
    }
    again = gan_train(*FAST, "run.dir=out", cwd=tmp_path)
    assert again.returncode == 0 and "out is complete (320 images)\nscores at 320" in again.stderr
    other = gan_train(*FAST, "run.dir=out", "loss=hinge", cwd=tmp_path)
    assert other.returncode == 1 and "loss._target_" in other.stderr
    assert other.stderr.count("\n") == 1, other.stderr


def test_a_user_error_is_one_line_and_debug_shows_where(tmp_path: Path) -> None:
    wrong = [line for line in FAST if not line.startswith("model")]
    done = gan_train(*wrong, "model=dcgan", "run.dir=out", cwd=tmp_path)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert lines[-1].startswith("gan-train: model: DCGANGenerator makes images, but the data are points")
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["state"] == "failed" and "DCGANGenerator" in status["reason"]
    done = gan_train(*wrong, "model=dcgan", "run.dir=out", "run.debug=true", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_a_broken_job_marks_itself_and_the_others_go_on(tmp_path: Path) -> None:
    sweep = ["-m", *FAST, "run.dir=sweep", "regularizer=[r1]", "regularizer.r1.every=1,0,2"]
    done = gan_train(*sweep, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    states = {job: json.loads((tmp_path / "sweep" / job / "status.json").read_text()) for job in "012"}
    assert [states[job]["state"] for job in "012"] == ["completed", "failed", "completed"]
    assert "every=0" in states["1"]["reason"] and "job 1 failed" in done.stderr
    assert states["0"]["objective"] == states["0"]["scores"]["modes_captured"]["value"]
    again = gan_train(*sweep, cwd=tmp_path)
    assert again.returncode == 1 and "sweep/0 is complete" in again.stderr


def test_a_run_that_is_refused_at_once_marks_itself_too(tmp_path: Path) -> None:
    done = gan_train("log.every=0", "run.dir=out", cwd=tmp_path, code=NO_TORCH)
    assert done.returncode == 1 and done.stderr == "gan-train: log.every=0: must be 1 or more\n"
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "failed"
    done = gan_train("dataset=folder", "run.dir=missing", cwd=tmp_path, code=NO_TORCH)
    assert done.returncode == 1 and "dataset.path" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert json.loads((tmp_path / "missing" / "status.json").read_text())["state"] == "failed"


def hint_program(home: Path) -> str:
    """How hints of commands begun in `home` call this interpreter."""
    with contextlib.chdir(home):
        return shlex.quote(invocation.python())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_save_and_say_how_to_continue(number: int, code: int, tmp_path: Path) -> None:
    lines = [line for line in FAST if not line.startswith(("schedule.images", "checkpoint"))]
    command = [sys.executable, "-m", "gan_experiments.cli", *lines, "schedule.images=100000000", "run.dir=out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL)
    metrics = tmp_path / "out" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while (not metrics.exists() or metrics.stat().st_size < 5000) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    asked = shlex.join([*lines, "schedule.images=100000000", "run.dir=out"])
    assert (
        f"; to continue: {hint_program(tmp_path)} -m gan_experiments.cli {asked}\n" in said and "Traceback" not in said
    )
    assert "gan-train: SIG" in said
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["state"] == "stopped" and signal.Signals(number).name in status["reason"]
    assert list((tmp_path / "out" / "checkpoints").glob("step-*.pt"))

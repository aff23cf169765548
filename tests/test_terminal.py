"""What a run says first and last: where it is, tables of scores, commands to paste, and a quiet end of pipes."""

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
from gan_experiments.invocation import continuing
from gan_experiments.logging.score_table import Best, best_of, score_table
from processes import SCRIPTS, Workshop, gan_train
from tiny import TINY

FAST = [*TINY, "runtime.threads=1"]
ENDLESS = [line for line in FAST if not line.startswith(("schedule.images", "samples.every", "evaluation.every"))]
ENDLESS += ["schedule.images=100000000", "samples.every=1000000", "evaluation.every=1000000"]


def record(value: float | None, floor: float | None = 5.0, **others: object) -> dict[str, object]:
    facts: dict[str, object] = {"value": value, "floor": floor, "n_fake": 10_000, "n_floor": 2000 if floor else 0}
    return facts | {"real": None, "interval": None, "higher_is_better": False} | others


RECORDS = {
    "fid": record(34.2123, 5.2123, interval=[33.9, 34.6]),
    "kid": record(0.0212, 0.00031),
    "inception_score": record(5.12345, None, real=8.3, higher_is_better=True),
}


def test_scores_are_a_table_with_floors_and_bests() -> None:
    bests = best_of(
        [(20_000, {"fid": record(33.8), "kid": record(None)}), (40_000, RECORDS), (60_000, {"fid": record(34.0)})]
    )
    assert bests == {"fid": Best(33.8, 20_000), "kid": Best(0.0212, 40_000), "inception_score": Best(5.12345, 40_000)}
    assert score_table(RECORDS, bests, 40_000, 100).splitlines() == [
        "scores at 40,000 images: 10,000 samples beside 2,000 held-out real ones",
        "                   value   better  real data  95 % interval  best",
        "  fid              34.21   lower   5.212      33.9 to 34.6   33.8 at 20,000",
        "  kid              0.0212  lower   0.00031    -              now",
        "  inception_score  5.123   higher  8.3        -              now",
        "  real data of 2,000 beside 10,000 samples: fid, kid: compare with care",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_the_table_fits_and_keeps_values_and_floors(width: int) -> None:
    lines = score_table(RECORDS, {}, 40_000, width).splitlines()
    assert max(map(len, lines[1:])) <= width
    assert "34.21" in lines[2] and "5.212" in lines[2] and ("33.9 to 34.6" in lines[2]) == (width >= 80)


def test_numbers_of_samples_stand_beside_scores_that_have_others() -> None:
    records = {"fid": record(34.2), "raw_fid": record(35.0, n_fake=500, n_floor=300), "none": record(None, None)}
    lines = score_table(records, {}, 40_000, 100).splitlines()
    assert lines[0] == "scores at 40,000 images"
    assert lines[2].split() == ["fid", "34.2", "(n", "10,000)", "lower", "5", "(n", "2,000)", "-"]
    assert "35 (n 500)" in lines[3] and "5 (n 300)" in lines[3] and lines[4].split()[1] == "nan"


@pytest.mark.parametrize(
    ("typed", "sweep", "expected"),
    [
        (["loss=hinge"], False, "loss=hinge run.dir=here/now"),
        (["loss=hinge", "run.dir=here/now", "run.seed=1"], False, "loss=hinge run.dir=here/now run.seed=1"),
        (["run.dir=outputs/${now:%H}", "a=b"], False, "a=b run.dir=here/now"),
        (["-m", "regularizer=[r1],[]", "run.seed=0,1"], True, "-m 'regularizer=[r1],[]' run.seed=0,1 run.dir=here/now"),
        (["-m", "hydra.sweep.dir=here/now/"], True, "-m hydra.sweep.dir=here/now/"),
        (["dataset.path=my photos/it's"], False, """'dataset.path=my photos/it'"'"'s' run.dir=here/now"""),
        (["run.dir=./here/now"], False, "run.dir=./here/now"),
        (["run.dir=old", "run.dir=here/now"], False, "run.dir=old run.dir=here/now"),
    ],
)
def test_the_command_that_continues_is_the_one_typed(typed: list[str], sweep: bool, expected: str) -> None:
    said = continuing(["/somewhere/gan-train", *typed], Path("here/now"), sweep)
    assert said == f"/somewhere/gan-train {expected}"
    assert shlex.split(said)[1:] == shlex.split(expected)


def test_programs_are_called_as_a_shell_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "gan-train"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert continuing([str(program)], Path("a b"), False) == "gan-train 'run.dir=a b'"
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    assert continuing([str(program)], Path("x"), False) == "bin/gan-train run.dir=x"
    assert invocation.script("sample.py", "a b") == shlex.join([sys.executable, str(SCRIPTS / "sample.py"), "a b"])
    assert invocation.script("no_such.py") is None


def test_a_run_says_where_it_is_and_what_to_do_next(workshop: Workshop, tmp_path: Path) -> None:
    done = workshop.run(gan_train(*TINY, "run.dir=my runs/a", cwd=tmp_path))
    assert done.code == 0, done.err
    lines = done.lines
    assert lines[0] == "run.dir: my runs/a"
    assert "data: ring, 200 points of 2 numbers in 8 classes, 100 more held out" in lines
    assert any(line.startswith("NoiseGame: ") and "320 images in 20 steps" in line for line in lines)
    scores = json.loads((tmp_path / "my runs/a/status.json").read_text())["scores"]
    end = lines.index("my runs/a: completed")
    assert lines[end + 1] == "scores at 320 images: 64 samples beside 64 held-out real ones"
    assert [line.split()[0] for line in lines[end + 3 : end + 3 + len(scores)]] == list(scores)
    assert any(line.startswith("best modes_captured: ") for line in lines)
    assert "picture: my runs/a/samples/images-000000320.png" in lines
    place = lines.index("next:")
    for line, name in zip(lines[place + 1 :], ("sample.py", "evaluate.py"), strict=True):
        words = shlex.split(line)
        assert words[1].endswith(f"scripts/{name}") and words[2] == "my runs/a"
        again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert again.returncode == 0, again.stderr
    assert (tmp_path / "my runs/a/samples/more.png").is_file()
    assert workshop.run(gan_train(*TINY, "run.dir=my runs/a", cwd=tmp_path)).lines[-2:] == lines[-2:]


def started(arguments: list[str], cwd: Path, records: Path, **streams: int) -> subprocess.Popen[str]:
    """A gan-train that has begun to train."""
    command = [sys.executable, "-m", "gan_experiments.cli", *arguments]
    process = subprocess.Popen(command, text=True, cwd=cwd, stdin=subprocess.DEVNULL, **streams)  # type: ignore[call-overload]
    deadline = time.monotonic() + 120
    while (not records.exists() or records.stat().st_size < 5000) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_the_hint_in_a_sweep_is_the_sweeps_command(tmp_path: Path) -> None:
    """Three jobs, one of them broken, stopped in the last; the command pasted finishes them."""
    several = ["-m", *ENDLESS, "regularizer=[r1]", "regularizer.r1.every=0,1,2"]
    first = tmp_path / "bait"
    process = subprocess.Popen(
        [sys.executable, "-m", "gan_experiments.cli", *several], text=True, cwd=tmp_path, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [path for path in tmp_path.glob("outputs/*/*/1/metrics.jsonl") if path.stat().st_size > 5000]
        if found:
            first = found[0].parents[1]
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said and "job 0 failed" in said, said
    hint = said.strip().splitlines()[-1].partition("; to continue: ")[2]
    place = first.relative_to(tmp_path)
    with contextlib.chdir(tmp_path):  # as the hint was written for
        python = invocation.python()
    assert shlex.split(hint) == [python, "-m", "gan_experiments.cli", *several,
                                 f"run.dir={place}"]  # fmt: skip
    assert hint in json.loads((first / "1/status.json").read_text())["reason"]
    assert not (first / "2").exists()


def test_a_run_whose_output_nobody_reads_saves_and_stops(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = started(
        [*ENDLESS, "run.dir=out"], tmp_path, tmp_path / "out/metrics.jsonl", stderr=writing, stdout=writing
    )
    os.close(writing)
    os.read(reading, 10)
    os.close(reading)
    assert process.wait(60) == 141
    status = json.loads((tmp_path / "out/status.json").read_text())
    assert status["state"] == "stopped" and "SIGPIPE" in status["reason"] and "run.dir=out" in status["reason"]
    assert list((tmp_path / "out/checkpoints").glob("step-*.pt"))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--help", "model"], ["--cfg", "job"], ["--info", "all"], ["--hydra-help"]]
)
def test_what_is_printed_ends_quietly_with_its_reader(arguments: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gan_experiments.cli", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, text=True, timeout=60)
    os.close(writing)
    assert done.returncode == -signal.SIGPIPE and done.stderr == ""

"""Records, status, atomic files and the progress line."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gan_experiments
from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import replacing, write_atomic
from gan_experiments.logging.progress import Progress
from gan_experiments.logging.records import Records, read_records
from gan_experiments.logging.status import RunStatus, State, Status, read_status


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


# strict JSON


def test_special_numbers_are_strings_in_the_file_and_numbers_again_when_read() -> None:
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.5], "c": {"d": None, "e": True, "f": "text", "g": (1, 2)}}
    text = strict_json.dumps(value)
    assert json.loads(text, parse_constant=refuse)["b"] == ["Infinity", "-Infinity", 1.5]
    back = strict_json.loads(text)
    assert isinstance(back, dict)
    assert math.isnan(back.pop("a"))
    assert back == {"b": [math.inf, -math.inf, 1.5], "c": {"d": None, "e": True, "f": "text", "g": [1, 2]}}


def test_numpy_numbers_are_numbers() -> None:
    assert strict_json.dumps([np.float32(0.5), np.int64(3), np.float64("nan")]) == '[0.5, 3, "NaN"]'


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        strict_json.dumps({"a": np.zeros(2)})
    with pytest.raises(ValueError, match="NaN"):
        strict_json.loads('{"a": NaN}')


# records


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    records = Records(path)
    records.write("train", 64, 1, {"generator/loss": 0.25})
    records.write("score", 128, 2, {"fid": {"value": math.nan, "floor": 1.0}})
    # before close: a killed process must leave every record behind
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    first, second = read_records(path)
    assert {key: first[key] for key in ("kind", "images", "step", "values")} == {
        "kind": "train",
        "images": 64,
        "step": 1,
        "values": {"generator/loss": 0.25},
    }
    assert second["images"] == 128 and math.isnan(second["values"]["fid"]["value"])
    assert second["time"] >= first["time"] > 1.7e9
    records.close()
    records.close()


def test_rewinding_drops_what_came_after_the_checkpoint_when_something_new_comes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    records = Records(path)
    records.write("train", 64, 1, {"loss": 1.0})
    kept, content = records.position, path.read_bytes()
    assert kept == len(content)
    records.write("train", 128, 2, {"loss": 2.0})
    records.close()

    resumed = Records(path)
    assert resumed.position > kept
    whole = path.read_bytes()
    resumed.rewind(kept, hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == whole and resumed.position == kept
    assert [record["values"]["loss"] for record in read_records(path, stop=kept)] == [1.0]
    resumed.write("train", 128, 2, {"loss": 3.0})
    assert [record["values"]["loss"] for record in read_records(path)] == [1.0, 3.0]
    assert resumed.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    resumed.close()


def test_records_set_aside_get_the_first_free_number(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    (tmp_path / "metrics-1.jsonl").write_text("mine")
    records = Records(path)
    records.write("train", 64, 1, {"loss": 1.0})
    content = path.read_bytes()
    assert records.set_aside() == tmp_path / "metrics-2.jsonl"
    assert (tmp_path / "metrics-1.jsonl").read_text() == "mine"
    assert (tmp_path / "metrics-2.jsonl").read_bytes() == content and path.read_bytes() == b""
    assert (records.position, records.sha256) == (0, hashlib.sha256().hexdigest())
    records.write("train", 64, 1, {"loss": 2.0})
    records.close()
    assert [record["values"]["loss"] for record in read_records(path)] == [2.0]


def test_torn_last_line_is_skipped_by_the_reader_and_dropped_by_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    records = Records(path)
    records.write("train", 64, 1, {"loss": 1.0})
    position = records.position
    records.close()
    # longer than the block in which the end of the last line is looked for
    path.write_bytes(path.read_bytes() + b'{"kind": "train", "values": "' + b"x" * 100_000)
    assert len(list(read_records(path))) == 1
    resumed = Records(path)
    assert resumed.position == position < path.stat().st_size
    resumed.write("train", 128, 2, {"loss": 2.0})
    resumed.close()
    assert [record["images"] for record in read_records(path)] == [64, 128]


def test_a_file_that_is_all_torn_stays_until_something_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind"')
    records = Records(path)
    assert records.position == 0 and path.read_bytes() == b'{"kind"'
    records.write("train", 64, 1, {"loss": 1.0})
    records.close()
    assert [record["images"] for record in read_records(path)] == [64]


def test_rewinding_refuses_a_file_that_is_not_the_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    records = Records(path)
    records.write("train", 64, 1, {"loss": 1.0})
    position, content = records.position, path.read_bytes()
    with pytest.raises(UserError, match=rf"metrics\.jsonl has {position} bytes .* after {position + 1}"):
        records.rewind(position + 1)
    with pytest.raises(UserError, match=r"metrics\.jsonl has no end of a line"):
        records.rewind(position - 1)
    with pytest.raises(UserError, match=r"metrics\.jsonl has been changed"):
        records.rewind(position, hashlib.sha256(content + b"x").hexdigest())
    assert path.read_bytes() == content
    records.close()


WELL = '{"kind": "train", "images": 1, "step": 1, "values": {}}'


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[1]", '{"kind": "train"}', '{"kind": NaN}', "[" * 10_000, WELL.replace("{}", "[]"),
     WELL.replace("train", "scores").replace("{}", '{"fid": 3}'), WELL.replace('"images": 1', '"images": "1"'),
     WELL.replace("train", "scores").replace("{}", '{"fid": {"value": "low", "higher_is_better": true}}')],
)  # fmt: skip
def test_reader_names_file_and_line_of_what_is_not_a_record(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "images": 1, "step": 1, "values": {}}\n' + line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2 is not a record"):
        list(read_records(path))


def test_records_that_cannot_be_opened_or_read_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot open {tmp_path}"):
        Records(tmp_path)
    with pytest.raises(UserError, match="missing"):
        list(read_records(tmp_path / "missing.jsonl"))


# atomic files and status


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "ä")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_failed_write_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_disk_errors_are_one_line_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot write .*missing/file: No such file"):
        write_atomic(tmp_path / "missing" / "file", "x")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_status_keeps_what_an_update_does_not_mention(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert read_status(path) is None
    status = Status(path)
    status.update(images=64, step=1)
    scores = {"fid": {"value": math.inf, "higher_is_better": False}}
    status.update(scores=scores, objective=0.0)
    status.update(State.FAILED, reason="NaN")
    assert read_status(path) == status.current and status.current.reason == "NaN"
    status.update(State.FAILED, reason="two\n  lines")
    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["state"] == "failed" and content["reason"] == "two lines"
    assert content["scores"]["fid"]["value"] == "Infinity"
    read = read_status(path)
    assert read == status.current
    assert read is not None and (read.images, read.step, read.objective, read.pid) == (64, 1, 0.0, os.getpid())
    assert read.scores == scores


def test_resumed_status_runs_again_and_remembers_its_first_start(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    scores = {"fid": {"value": 2.0, "higher_is_better": False}}
    former = RunStatus(State.STOPPED, "interrupted", 64, 1, scores, None, "2020-01-01T00:00:00+00:00", pid=1)
    status = Status(path)
    status.current = former
    status.update()
    resumed = Status(path)
    resumed.update(images=128)
    read = read_status(path)
    assert read is not None
    assert (read.state, read.reason, read.images, read.step, read.pid) == (State.RUNNING, "", 128, 1, os.getpid())
    assert read.scores == scores and read.started == former.started < read.updated


@pytest.mark.parametrize("content", ["", "[]", '{"state": "running"}', "{"])
def test_spoilt_status_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "status.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"status\.json"):
        read_status(path)


def test_unknown_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    Status(path).update()
    path.write_text(path.read_text().replace("running", "asleep"))
    with pytest.raises(UserError, match="asleep.*running, completed, stopped, failed"):
        read_status(path)


def test_status_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    writer = (
        "import sys; from pathlib import Path; from gan_experiments.logging.status import Status\n"
        "status = Status(Path(sys.argv[1]))\n"
        "for step in range(1, 101): status.update(step=step, reason='x' * 1000)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(gan_experiments.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", writer, str(path)], env=environment)
    seen = set()
    while process.poll() is None:
        status = read_status(path)
        seen.add(status.step if status else None)
    assert process.returncode == 0 and len(seen) > 3
    final = read_status(path)
    assert final is not None and final.step == 100


# progress line


class Terminal(io.StringIO):
    """A terminal that can tell what it shows."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        shown = []
        for line in self.getvalue().split("\n"):
            screen = ""
            for part in line.split("\r"):
                screen = part + screen[len(part) :]
            shown.append(screen.rstrip())
        return shown


def test_plain_lines_are_whole_and_rare() -> None:
    now = [0.0]
    stream = io.StringIO()
    progress = Progress(1000, stream=stream, clock=lambda: now[0])
    now[0] = 100.0  # what comes before the start is no part of the speed
    progress.start(200)
    for second in range(1, 26):  # 20 images/s
        now[0] = 100.0 + second
        if second == 5:
            progress.show({"generator": 0.625, "discriminator": 1.0}, {"fid": 12.3})
        progress.update(200 + 20 * second)
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "400/1,000 images (40%), 20 images/s, 0:00:30 left, generator 0.625, discriminator 1, fid 12.3",
        "600/1,000 images (60%), 20 images/s, 0:00:20 left, generator 0.625, discriminator 1, fid 12.3",
        "700/1,000 images (70%), 20 images/s, 0:00:15 left, generator 0.625, discriminator 1, fid 12.3",
    ]
    assert "\r" not in stream.getvalue()


def test_plain_line_of_a_run_that_did_nothing() -> None:
    stream = io.StringIO()
    Progress(0, stream=stream).close()
    progress = Progress(0, stream=stream)
    progress.start()
    progress.close()
    assert stream.getvalue() == ""


def test_terminal_shows_one_live_line_and_messages_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        progress = Progress(1000, stream=terminal)
        progress.start(200)
        progress.show({"generator": 0.625})
        progress.update(300)
        logging.getLogger("any").warning("a message")
        progress.show({"generator": 0.5}, {"fid": 12.3})
        progress.update(600)
        progress.close()
    finally:
        root.removeHandler(handler)
    lines = terminal.lines()
    assert lines[0] == "a message"
    assert "60%" in lines[1] and "600/1,000" in lines[1] and "G 0.5, fid 12.3" in lines[1]
    assert lines[2:] == [""]
    assert "G 0.625" in terminal.getvalue()


def test_progress_ends_well_with_its_stream_default(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(10)
    progress.start()
    progress.update(10)
    progress.close()
    assert "10/10 images (100%)" in capsys.readouterr().err

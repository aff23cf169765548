"""The script that compares networks: its table from finished runs, and a run of the command itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gan_experiments.logging.status import State, Status

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "reproduce"))

import architectures  # noqa: E402


def finished(directory: Path, fid: float, rates: tuple[float, ...]) -> None:
    directory.mkdir(parents=True)
    Status(directory / "status.json").update(State.RUNNING, scores={"fid": {"value": fid}})
    Status(directory / "status.json").update(State.COMPLETED)
    lines = [{"kind": "train", "values": {"progress/images_per_second": rate}} for rate in rates]
    (directory / "metrics.jsonl").write_text("\n".join(map(json.dumps, [*lines, {"kind": "scores", "values": {}}])))


def test_a_row_is_mean_and_deviation_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "sizes", lambda directory: {"generator": 12_345, "discriminator": 67})
    tasks = architectures.plan(tmp_path, ["dcgan"], 3)
    finished(tasks[0].directory, 20.0, (1.0, 100.0, 110.0))
    finished(tasks[1].directory, 22.0, (90.0,))
    tasks[2].directory.mkdir()
    Status(tasks[2].directory / "status.json").update(State.FAILED, reason="NaN")
    row = architectures.row("dcgan", tasks)
    assert row == ["dcgan", "21 ± 1.4", "-", "-", "-", "-", "95 ± 7.1", "12,345", "67", "2", "1"]


def test_the_command_trains_prints_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small = ("schedule.steps=2", "schedule.images=null", "evaluation.samples=50", "metric=[fid]", "log.every=32")
    method = "resnet, classes by projection"
    overrides = [line for line in architectures.METHODS[method] if not line.startswith("metric")]
    tiny = [*overrides, *architectures.both("width=4"), *small]
    monkeypatch.setattr(architectures, "METHODS", {method: tuple(tiny)})
    picture = tmp_path / "strip.png"
    command = ["architectures.py", "--dir", str(tmp_path / "runs"), "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--methods", method, "--grids", str(picture)])
    architectures.main()
    said = capfd.readouterr().out
    assert said.count("resnet, classes by projection") == 1 and "| 1 |" in said.replace("    ", " ").replace("   ", " ")
    assert picture.exists()

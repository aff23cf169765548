"""What the scripts share: output places, quiet ends, how far they are; readable sheets and axes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gan_experiments.analysis.figures import blank, make_log
from gan_experiments.console import check_file, check_folder, write_file
from gan_experiments.errors import UserError
from gan_experiments.pictures import readable, save_sheet
from gan_experiments.ticks import even_ticks, log_ticks, plain
from processes import SCRIPTS
from pseudo_terminal import PseudoTerminal, drawn


@pytest.mark.parametrize(
    ("columns", "side", "factor"),
    [
        (10, 32, 3),
        (10, 28, 3),
        (8, 64, 2),
        (1, 32, 24),
        (24, 32, 2),
        (25, 32, 1),
        (3, 128, 1),
        (1, 512, 1),
        (3, 127, 3),
    ],
)
def test_sheets_are_enlarged_by_whole_factors(columns: int, side: int, factor: int, tmp_path: Path) -> None:
    wide = columns * (side + 1) + 1
    pixels = np.random.default_rng(0).integers(0, 256, (side + 2, wide, 3), np.uint8)
    large = readable(pixels, side)
    assert large.shape == (factor * (side + 2), factor * wide, 3) and (side >= 128 or large.shape[1] >= 800)
    for down in range(factor):
        assert np.array_equal(large[down::factor, factor - 1 :: factor], pixels)
    save_sheet(tmp_path / "new" / "a.png", pixels[:, :, :1], side)
    assert (tmp_path / "new" / "a.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1.0, "1"), (10, "10"), (200, "200"), (1e6, "1,000,000"), (1e-5, "0.00001"), (34.5, "34.5"),
     (0.00025, "0.00025"), (0.0, "0"), (1234.56, "1,235"), (-0.5, "-0.5")],
)  # fmt: skip
def test_numbers_at_axes_are_plain(value: float, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 200, [0.1, 1, 10, 100]),
        (3, 300, [5, 10, 20, 50, 100, 200]),
        (30, 45, [30, 35, 40, 45]),
        (10.2, 10.9, [10.2, 10.4, 10.6, 10.8]),
        (2e-4, 9e-4, [2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, 8e-4, 9e-4]),
        (1, 1e12, [1, 1e2, 1e4, 1e6, 1e8, 1e10, 1e12]),
        (7, 7, [7]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(expected)
    assert even_ticks(0.0, 1.0) == [0, 0.2, 0.4, 0.6, 0.8, 1] and even_ticks(-3.1, 12) == [0, 5, 10]


@pytest.mark.parametrize("values", [[0.1, 200.0], [31.0, 44.0], [290.0, 310.0], [5.0, 5.0], [1e-6, 2e-4], [1e3, 1e7]])
@pytest.mark.parametrize("which", ["x", "y"])
def test_log_axes_have_plain_numbers(values: list[float], which: str) -> None:
    figure = blank(6, 4)
    axes = figure.subplots()
    axes.plot(values, values)
    make_log(axes, which)
    figure.draw_without_rendering()
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    shown = [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert 2 <= len([text for text in shown if text]) <= 12 and len(set(shown)) == len(shown)
    assert not any(mark in text for text in shown for mark in ("10^", "e+", "e-", "$", "\u00d7")), shown
    assert not any(tick.label1.get_text() for tick in axis.get_minor_ticks())


def test_output_places_are_tried_first(tmp_path: Path) -> None:
    check_file(None, "--json")
    check_file(tmp_path / "new/deep/a.json", "--json")
    check_folder(tmp_path / "new/deep", "--out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/line")
    for path, said in {
        tmp_path: "--json .*: is a folder; give the name of a file",
        tmp_path / "file/a.json": "--json .*file/a.json: .*file is a file",
        tmp_path / "pipe/line": "neither a file nor a folder",
        Path("/proc/a.json"): "--json /proc/a.json: can't be written",
        tmp_path / ("n" * 300): "too long",
    }.items():
        with pytest.raises(UserError, match=said):
            check_file(path, "--json")
    for path in (tmp_path / "file", tmp_path / "file/below", Path("/proc/below/a")):
        with pytest.raises(UserError, match="--out"):
            check_folder(path, "--out")
    write_file(tmp_path / "new/deep/a.json", "text")
    assert (tmp_path / "new/deep/a.json").read_text() == "text"
    with pytest.raises(UserError, match="cannot write"):
        write_file(tmp_path / "file/a.json", "text")


TALKING = """
import sys, time
from gan_experiments.console import run_command
sys.argv[0] = "tool.py"
def main():
    {}
run_command(main)
"""


def tool(body: str, **streams: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", TALKING.format(body)], text=True, stderr=subprocess.PIPE, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("body", ["print('x' * 10)", "print('x' * 100_000)", "sys.exit(print('x' * 9))"])
def test_a_script_ends_quietly_with_the_reader_of_its_output(body: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = tool(body, stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 141


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise KeyboardInterrupt", 130, "tool.py: interrupted\n"),
        ("open('/nowhere/a')", 1, "tool.py: /nowhere/a: No such file or directory\n"),
        ("sys.exit('tool.py: no')", 1, "tool.py: no\n"),
        ("return 3", 3, ""),
    ],
)
def test_a_script_ends_in_one_line(body: str, code: int, said: str) -> None:
    process = tool(body, stdout=subprocess.DEVNULL)
    assert process.communicate(timeout=60)[1] == said and process.returncode == code


def test_a_real_pipe_error_is_none_of_the_terminals() -> None:
    process = tool("raise BrokenPipeError('of another pipe')", stdout=subprocess.DEVNULL)
    assert "of another pipe" in process.communicate(timeout=60)[1] and process.returncode == 1


def test_filtering_shows_how_far_it_is_and_stops_in_one_line(tmp_path: Path) -> None:
    terminal = PseudoTerminal(80)
    options = ["--dataset", "fashion10k", "--out", "o", "--distance", "pixels", "--width", "4", "runtime.threads=1"]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "filter_dataset.py"), *options, "--steps", "100000"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal.slave, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while b"training   0% [" not in terminal.content and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    lines = drawn(terminal.read())
    assert process.returncode == 130 and lines[-1].strip() == "filter_dataset.py: interrupted"
    live = [line for line in lines if line.startswith("training")]
    assert live and max(map(len, live)) < 80 and " left" in live[-1] and not (tmp_path / "o").exists()

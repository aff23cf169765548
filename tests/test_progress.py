"""The live line: whole at any width, on pseudo terminals and for any numbers."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from gan_experiments.logging.line import Moment, spell_seconds, spell_value
from gan_experiments.logging.progress import Progress, stages
from pseudo_terminal import PseudoTerminal, drawn, on_terminal
from tiny import TINY

WIDTHS = (60, 80, 100, 120)
USUAL = Moment(
    172_000, 400_000, rate=3412.3, left=4422, losses={"generator": 0.81234, "discriminator": 1.3123},
    score=("fid", 34.217),
)  # fmt: skip
LONG = Moment(
    430_123_456, 10**9, rate=12_345, left=123_456, losses={"generator": -1.2345e-5, "discriminator": 123_456.7},
    score=("perceptual_path_length", 123_456.789),
)  # fmt: skip
MANY = Moment(
    10, 100, rate=0.21, left=3 * 86400, losses={"generator": 0.8, "discriminator": 1.3, "encoder_of_images": 2.5},
    score=("raw_classification_score_real", 0.1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (120, " 43% [####......] 172,000/400,000 images, 3,412 images/s, 1:13:42 left, G 0.8123, D 1.312, fid 34.22"),
        (100, " 43% 172,000/400,000 images, 3,412 images/s, 1:13:42 left, G 0.8123, D 1.312, fid 34.22"),
        (80, " 43% 172k/400k, 3.41k/s, 1:13:42 left, G 0.8123, D 1.312, fid 34.22"),
        (60, " 43%, 3.41k/s, 1:13:42 left, G 0.8123, D 1.312, fid 34.22"),
        (50, " 43%, 1:13:42 left, G 0.812, D 1.31, fid 34.2"),
        (40, " 43%, 1:13:42 left, G 0.812, fid 34.2"),
        (30, " 43%, 1:13:42 left, fid 34.2"),
        (20, " 43%, 1:13:42 left"),
        (2, "4"),
        (5, "43%"),
    ],
)
def test_what_matters_least_goes_first(width: int, line: str) -> None:
    assert USUAL.fitted(width - 1) == line


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("moment", [USUAL, LONG, MANY, Moment(0, 10**9)], ids=["usual", "long", "many", "nothing"])
def test_no_number_that_matters_is_cut(moment: Moment, width: int) -> None:
    line = moment.fitted(width - 1)
    assert len(line) < width and f"{moment.share}%" in line
    if moment.left is not None and moment.score is not None:
        assert f"{spell_seconds(moment.left)} left" in line
        for digits in (4, 3):
            numbers = [spell_value(value, digits) for value in [*moment.losses.values(), moment.score[1]]]
            if all(re.search(rf" {re.escape(number)}(,|$)", line) for number in numbers):
                break
        else:
            raise AssertionError(line)
        assert line.endswith(f" {numbers[-1]}") and ", G " in line and ", D " in line
        assert "/s" in line or moment is MANY


def test_every_width_has_a_line_and_a_wider_one_says_no_less() -> None:
    for moment in (USUAL, LONG, MANY, Moment(0, 0), Moment(5, 3), Moment(1, 10**12, rate=float("nan"))):
        lines = [moment.fitted(width) for width in range(1, 200)]
        assert all(len(line) <= width for width, line in enumerate(lines, start=1))
        parts = [line.count(",") for line in (re.sub(r"\d,\d", "", line) for line in lines)]
        assert all(later >= earlier for earlier, later in pairwise(parts[5:]))


def test_numbers_in_few_characters() -> None:
    assert [spell_value(value, 3) for value in (0.81234, 12_345.6, -1.2345e-5, 1e20, 0.0)] == [
        "0.812", "12.3k", "-1.23e-5", "1e20", "0"
    ]  # fmt: skip
    assert spell_value(float("nan"), 4) == "nan" and spell_value(float("-inf"), 4) == "-inf"
    assert [spell_seconds(seconds) for seconds in (29.6, 3599, 86_399, 86_400, 10**8)] == [
        "0:00:30", "0:59:59", "23:59:59", "1d 00h", "1,157d 09h"
    ]  # fmt: skip


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_terminal_is_never_overrun(columns: int) -> None:
    terminal = PseudoTerminal(columns)
    progress = Progress(10**9, stream=terminal.stream, objective="kid")
    progress.start(400_000_000)  # a continued run
    progress.show({"discriminator": 0.7, "generator": 123_456.7}, {"fid": 1234.5, "kid": 0.0123, "precision": 0.5})
    for images in range(400_000_000, 430_000_000, 1_000_000):
        progress.update(images)
    progress._bar.refresh()  # type: ignore[union-attr]
    progress.close()
    lines = drawn(terminal.read())
    assert max(map(len, lines)) < columns
    assert "kid 0.0123" in lines[-1] and "fid" not in lines[-1]
    for part in (" 42%", "/s", " left", "G 123k", "D 0.7"):
        assert part in lines[-1], lines[-1]


def test_the_line_follows_the_window() -> None:
    terminal = PseudoTerminal(120)
    progress = Progress(1000, stream=terminal.stream)
    progress.start()
    progress.show({"generator": 0.5, "discriminator": 1.5}, {"fid": 12.3})
    for columns, images in ((120, 100), (60, 200), (40, 300)):
        terminal.resize(columns)
        progress.update(images)
        progress._bar.refresh()  # type: ignore[union-attr]
    progress.close()
    lines = drawn(terminal.read())
    assert len(next(line for line in reversed(lines) if " 10%" in line).rstrip()) > 60
    assert len(lines[-1].rstrip()) < 40 and " 30%" in lines[-1]


def test_evaluations_do_not_slow_the_rate_that_is_shown() -> None:
    terminal = PseudoTerminal(100)
    progress = Progress(1000, stream=terminal.stream)
    progress.start()
    progress.show({"generator": 0.5}, rate=4321.0)
    progress.update(500)
    progress._bar.refresh()  # type: ignore[union-attr]
    progress.close()
    assert ", 4,321 images/s, " in drawn(terminal.read())[-1]


def test_a_terminal_without_a_size_is_as_wide_as_usual() -> None:
    terminal = PseudoTerminal(0)
    progress = Progress(1000, stream=terminal.stream)
    progress.start()
    progress.update(500)
    progress._bar.refresh()  # type: ignore[union-attr]
    progress.close()
    assert " 50%" in drawn(terminal.read())[-1]


def test_stages_of_a_tool_have_a_line_each_and_leave_none() -> None:
    terminal = PseudoTerminal(80)
    with stages(stream=terminal.stream) as tell:
        for what in ("training", "scoring"):
            for done in range(0, 101, 50):
                tell(what, done, 100)
    text = terminal.read()
    lines = drawn(text)
    assert any(line.startswith("training   0%") for line in lines)
    assert any(line.startswith("scoring   0%") for line in lines)
    assert "\n" not in text.strip("\r\n ") and not text.split("\r")[-1].strip()


def test_a_pipe_that_nobody_reads_ends_no_progress() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", buffering=1)
    os.close(reading)
    now = [0.0]
    progress = Progress(100, stream=stream, clock=lambda: now[0])
    progress.start()
    now[0] = 20.0
    progress.update(50)
    progress.close()
    with suppress(BrokenPipeError):
        stream.close()
    assert progress.images == 50


def test_a_run_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    code, text = on_terminal([*TINY, "runtime.threads=1", "run.dir=out"], 80, tmp_path)
    lines = drawn(text)
    live = [line for line in lines if re.match(" *[0-9]+%", line)]
    assert code == 0 and len(live) > 2 and max(map(len, live)) < 80, text
    (last,) = [line for line in live if "100%" in line][-1:]
    for part in ("320/320", "/s", "0:00:00 left", "G ", "D ", "modes_captured "):
        assert part in last, last
    assert lines[0] == "run.dir: out"

"""Tables and figures of sweeps: how runs are grouped, named, counted, sorted and drawn."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_experiments.analysis import naming
from gan_experiments.analysis.sweep import main_scores, mismatches, read_run, read_sweep
from gan_experiments.errors import UserError
from gan_experiments.logging.lock import Lock
from gan_experiments.logging.status import State
from processes import Done, gan_train, run_in_turn, script
from run_folders import BASE, FLOOR, config, fid, put, record
from tiny import TINY

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import summarize  # noqa: E402

LOSSES = "gan_experiments.objectives.adversarial"


def smoothing(**more: Any) -> dict[str, Any]:
    """What trick=label_smoothing changes."""
    return {"trick": {"label_smoothing": {"about": "..."}}, "loss": {**BASE["loss"], "real_target": 0.9}, **more}


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Path]:
    """Three settings: a good trick, the baseline, a bad one; with a failed, a stopped and a running run."""
    put(tmp_path / "0", config(0), fid(30, 20))
    put(tmp_path / "1", config(1), fid(25, 24))
    put(tmp_path / "2", config(2), fid(50, 23, 22))
    put(tmp_path / "3", config(0, **smoothing()), fid(12, 10))
    put(tmp_path / "10", config(1, **smoothing()), fid(9, 12))
    put(tmp_path / "4", config(2, **smoothing()), fid(15), State.STOPPED, "SIGTERM at 500 images", 500)
    put(tmp_path / "5", config(0, trick={"noise": {}}), fid(40, 23))
    put(tmp_path / "6", config(1, trick={"noise": {}}), fid(40), State.FAILED, "parameters became NaN")
    put(tmp_path / "7", config(2, trick={"noise": {}}), state=State.RUNNING, images=123)
    (tmp_path / "notes").mkdir()
    (tmp_path / "multirun.yaml").write_text("hydra: {}")
    running = Lock(tmp_path / "7")
    yield tmp_path
    running.release()


# reading


def test_runs_that_differ_by_seed_and_place_are_one_setting(sweep: Path) -> None:
    settings = {setting.label: setting for setting in read_sweep(sweep)}
    assert {name: [run.path.name for run in setting.runs] for name, setting in settings.items()} == {
        "none": ["0", "1", "2"], "label_smoothing": ["3", "4", "10"], "noise": ["5", "6", "7"],
    }  # fmt: skip
    none, good, bad = settings.values()
    assert (none.last("fid").mean, none.last("fid").sd, none.last("fid").n) == (22, 2, 3)
    assert none.best("fid").mean == pytest.approx((20 + 24 + 22) / 3) and none.floor("fid").mean == FLOOR
    # A stopped run's last evaluation isn't the last one of the runs that came to their end.
    assert (good.last("fid").mean, good.last("fid").n) == (11, 2) and good.best("fid").mean == 9.5
    assert [bad.number_of(state) for state in State] == [1, 1, 0, 1, 0]
    assert (bad.last("fid").mean, bad.last("fid").sd, bad.last("fid").n) == (23, None, 1)
    assert good.differs["loss.real_target"] == 0.9 and "run.seed" not in good.differs


def test_best_is_the_largest_where_more_is_better(tmp_path: Path) -> None:
    run = read_run(put(tmp_path / "0", config(), [{"is": record(value, True)} for value in (2, 5, 3)]))
    assert (run.scores["is"].last, run.scores["is"].best) == (3, 5)


@pytest.mark.parametrize(
    ("history", "reason"),
    [([], "completed without scores"), (fid(3, math.nan), "fid is nan"), (fid(math.inf), "fid is inf")],
)
def test_runs_without_finite_scores_have_failed(history: list[Mapping[str, Any]], reason: str, tmp_path: Path) -> None:
    run = read_run(put(tmp_path / "0", config(), history))
    assert (run.state, run.reason, run.counts) == (State.FAILED, reason, False)


def test_runs_whose_files_are_missing_or_broken(tmp_path: Path) -> None:
    refused = put(tmp_path / "0", None, state=State.FAILED, reason="schedule.batch_size=0: must be 1 or more")
    torn = put(tmp_path / "1", config(), fid(5))
    (torn / "status.json").write_text("{")
    put(tmp_path / "2", config(), fid(5))
    early = put(tmp_path / "3", config(1))
    (early / "status.json").unlink()
    settings = read_sweep(tmp_path)
    assert [(s.label, [run.path.name for run in s.runs]) for s in settings] == [
        ("all", ["2", "3"]), ("(no configuration)", ["0", "1"]),
    ]  # fmt: skip
    assert read_run(refused).reason == "schedule.batch_size=0: must be 1 or more"
    assert "status.json" in read_run(torn).reason and read_run(torn).state is State.FAILED
    assert read_run(early).state is State.LOST and read_run(early).seed == 1
    starting = Lock(early)
    assert read_run(early).state is State.RUNNING
    starting.release()


def test_scores_named_like_metrics_are_the_main_ones(tmp_path: Path) -> None:
    scores = {name: record(1.0) for name in ("fid", "inception_score", "sharpness", "raw_fid")}
    put(tmp_path / "a" / "0", config(metric={"fid": {}, "inception_score": {}}), [scores])
    assert main_scores(read_sweep(tmp_path / "a")) == ["fid", "inception_score"]
    put(tmp_path / "b" / "0", config(metric={"fid": {}, "modes": {}}), [scores])
    assert main_scores(read_sweep(tmp_path / "b")) == ["fid", "inception_score", "sharpness"]


# names


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ([{}], ["all"]),
        ([{}, smoothing(), {"trick": {"a": {}, "b": {}}}], ["none", "label_smoothing", "a+b"]),
        (
            [{}, {"loss": {"_target_": f"{LOSSES}.Hinge"}}, {"loss": {"_target_": "my.Own"}}],
            ["loss=NonSaturating", "loss=Hinge", "loss=Own"],
        ),
        ([{}, {"loss": {"_target_": f"{LOSSES}.Hinge"}}], ["nonsaturating", "hinge"]),
        ([{}, {"regularizer": {"r1": {"weight": 1.0}}}], ["none", "r1"]),
        ([{"regularizer": {"r1": {"weight": w}}} for w in (1.0, 10.0)], ["r1.weight=1", "r1.weight=10"]),
        (
            [{"schedule": {**BASE["schedule"], "discriminator": {"lr": lr}}} for lr in (2e-4, 4e-4)],
            ["discriminator.lr=0.0002", "discriminator.lr=0.0004"],
        ),
        (
            [{}, smoothing(), smoothing(loss={**BASE["loss"], "real_target": 0.8})],
            ["none", "label_smoothing, loss.real_target=0.9", "label_smoothing, loss.real_target=0.8"],
        ),
        (
            [{**trick, "seeded": {"size": size}} for trick in ({}, smoothing()) for size in (1, [2, 3])],
            ["none, seeded.size=1", "none, seeded.size=[2,3]", "label_smoothing, seeded.size=1",
             "label_smoothing, seeded.size=[2,3]"],
        ),
        (
            [{}, {"schedule": {**BASE["schedule"], "generator": {"lr": {"_target_": "a.b.Cosine", "start": 1}}}}],
            ["generator.lr=0.0002", "generator.lr=Cosine"],
        ),
        ([{}, {"extra": None}, {"extra": "a/b.c"}], ["extra=(absent)", "extra=null", "extra=a/b.c"]),
    ],
)  # fmt: skip
def test_names_say_what_differs_and_no_more(changes: list[dict[str, Any]], names: list[str]) -> None:
    found = naming.label([config(seed, **change) for seed, change in enumerate(changes)])
    assert found == names and len(set(found)) == len(found)


def test_options_are_found_again(composed: Any) -> None:
    """What the command line chose, although the configuration doesn't keep it; images are overridden in all."""
    from gan_experiments.config import plain

    for group, options in {
        "schedule": ["linear", "ttur", "constant"], "model": ["dcgan", "mlp"], "regularizer": ["none", "r1"],
        "dataset": ["ring", "stacked_fashion10k", "fashion10k"], "loss": ["hinge", "minimax"],
    }.items():  # fmt: skip
        value = "{}=[{}]" if group == "regularizer" else "{}={}"
        configs = [plain(composed(value.format(group, option), "schedule.images=999")) for option in options]
        assert naming.label(configs) == options


# the table


def test_rows_are_sorted_by_the_first_score_and_compared_with_the_baseline(sweep: Path) -> None:
    report = summarize.Report(sweep, [], "none")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.table().splitlines()]
    assert rows[0] == ["setting", "fid ↓ last", "best seen", "real", "last minus none", "n", "failed", "unfinished",
                       "images", "seconds"]  # fmt: skip
    cells = {row[0]: row[1:-1] for row in rows[2:]}
    assert list(cells) == ["label_smoothing", "none", "noise"]
    assert cells["label_smoothing"] == [
        "11 ± 1.4",
        "9.5 ± 0.71",
        "4",
        "-11 better, beyond spread",
        "2",
        "0",
        "1",
        "1,000",
    ]
    assert cells["none"] == ["22 ± 2", "22 ± 2", "4", "-", "3", "0", "0", "1,000"]
    assert cells["noise"] == ["23", "23", "4", "+1 worse, one seed", "1", "1", "1", "1,000"]


def test_a_difference_within_the_spread_says_so(tmp_path: Path) -> None:
    for seed, value in enumerate((10.0, 14.0)):
        put(tmp_path / f"a{seed}", config(seed), [{"is": record(value, True)}])
        put(tmp_path / f"b{seed}", config(seed, extra=1), [{"is": record(value + 3.9, True)}])
        put(tmp_path / f"c{seed}", config(seed, extra=2), [{"is": record(value + 4.1, True)}])
    report = summarize.Report(tmp_path, ["is"], "extra=(absent)")
    assert [setting.label for setting in report.settings] == ["extra=2", "extra=1", "extra=(absent)"]
    # Both standard deviations are sqrt(8), so the spread is 4.
    assert [str(report.difference(setting, "is")) for setting in report.settings] == [
        "+4.1 better, beyond spread", "+3.9 better, within spread", "None",
    ]  # fmt: skip


def test_equal_means_are_neither_better_nor_worse(tmp_path: Path) -> None:
    put(tmp_path / "a", config(0), [{"is": record(3.0, True)}])
    put(tmp_path / "b", config(0, extra=1), [{"is": record(3.0, True)}])
    report = summarize.Report(tmp_path, ["is"], "extra=(absent)")
    assert {str(report.difference(setting, "is")) for setting in report.settings} == {"equal", "None"}


def test_notes_list_what_does_not_count_with_its_reason(sweep: Path) -> None:
    put(sweep / "11", config(3, trick={"noise": {}}), state=State.FAILED, reason="parameters became NaN")
    lines = summarize.Report(sweep, [], None).notes().splitlines()
    assert "- noise, seeds 1, 3 (6, 11): failed: parameters became NaN" in lines
    assert "- noise, seed 2 (7): running at 123 images" in lines
    assert "- label_smoothing, seed 2 (4): stopped at 500 images: SIGTERM at 500 images" in lines
    assert "- Settings differ in loss.real_target, trick." in lines
    assert not any("WARNING" in line for line in lines)


def test_a_run_whose_process_has_died_is_lost_with_the_command_to_continue(sweep: Path) -> None:
    lost = put(sweep / "11", config(3, trick={"noise": {}}), state=State.RUNNING, images=456)
    (lost / "provenance.json").write_text('{"starts": [{"again": "gan-train -m trick=noise"}]}')
    lines = summarize.Report(sweep, [], None).notes().splitlines()
    (line,) = (line for line in lines if "(11)" in line)
    assert line.startswith("- noise, seed 3 (11): lost at 456 images: process ")
    assert line.endswith("ended without a word; to continue: gan-train -m trick=noise")
    assert "- noise, seed 2 (7): running at 123 images" in lines


def test_scores_that_do_not_compare_are_warned_of(sweep: Path) -> None:
    put(sweep / "12", config(5, extra=1), fid(7, n_fake=5))
    assert list(mismatches(read_sweep(sweep), "fid")) == ["n_fake is 10 or 5"]
    assert "WARNING: fid isn't comparable, as n_fake is 10 or 5" in summarize.Report(sweep, [], None).notes()


def test_numbers_are_kept_as_json(sweep: Path) -> None:
    settings = summarize.Report(sweep, [], "none").to_record()["settings"]
    first, _, last = settings
    assert first["scores"]["fid"]["last"] == {"mean": 11, "sd": pytest.approx(math.sqrt(2)), "n": 2}
    assert first["scores"]["fid"]["minus_baseline"] == {
        "value": -11, "better": True, "spread": pytest.approx(math.sqrt(6)),
    }  # fmt: skip
    assert [first[key] for key in ("label", "completed", "failed", "unfinished")] == ["label_smoothing", 2, 0, 1]
    assert [run["state"] for run in last["runs"]] == ["completed", "failed", "running"]
    assert last["runs"][1]["reason"] == "parameters became NaN" and first["runs"][2]["directory"] == "10"


def test_scores_without_a_floor_are_told_and_drawn_without(tmp_path: Path) -> None:
    own = {"interval": [1.0, 3.0], "interval_from": "jackknife", "draws": 1, "device": "cpu"}
    put(
        tmp_path / "0",
        config(),
        [{"a": record(2.0, floor=None, real=None, **own), "b": record(2.0, floor=None, real=0.5)}],
    )
    report = summarize.Report(tmp_path, ["a", "b"], None)
    cells = [cell.strip() for cell in report.table().splitlines()[2].split("|")[1:-1]]
    assert cells[1:7] == ["2", "2", "-", "2", "2", "0.5"]
    scores = report.to_record()["settings"][0]["scores"]
    assert (scores["a"]["held_out_real"]["mean"], scores["b"]["held_out_real"]["mean"]) == (None, 0.5)
    floors = [[line for line in axes.lines if line.get_color() == summarize.FLOOR and len(line.get_xdata())]  # type: ignore[arg-type]
              for axes in report.draw().axes]  # fmt: skip
    assert [len(lines) for lines in floors] == [0, 1]
    found = read_run(tmp_path / "0").scores
    assert (found["a"].interval, found["a"].interval_from, found["b"].interval) == ((1.0, 3.0), "jackknife", None)


def test_a_sweep_made_in_parts_is_one_sweep(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    runs = sum(len(setting.runs) for setting in read_sweep(sweep))
    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(sweep, whole / "first")
    (whole / "first" / "0" / "wandb").mkdir()
    (whole / "first" / "0").rename(whole / "alone")
    assert sum(len(setting.runs) for setting in read_sweep(whole)) == runs


def test_mistakes_are_one_line(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "a").mkdir(parents=True)
    for folder, said in (
        (tmp_path / "nowhere", r"nowhere: can't be read \(No such file or directory\); give the folder of a sweep"),
        (tmp_path / "empty", "empty: holds no runs; give the run.dir of a gan-train -m"),
        (sweep / "0", "0: is a single run; give the folder of a sweep"),
    ):
        with pytest.raises(UserError, match=said):
            summarize.Report(folder, [], None)
    with pytest.raises(UserError, match="--baseline no: no such setting; there is none; label_smoothing; noise"):
        summarize.Report(sweep, [], "no")
    with pytest.raises(UserError, match="--scores kid: no run has it; there is fid"):
        summarize.Report(sweep, ["kid"], None)


# the figure


def test_the_figure_has_a_row_a_setting_and_a_dot_a_run(sweep: Path) -> None:
    figure = summarize.Report(sweep, [], None).draw()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "label_smoothing (1 unfinished)", "none", "noise (1 failed, 1 unfinished)",
    ]  # fmt: skip
    dots = [np.asarray(collection.get_offsets()).tolist() for collection in axes.collections]
    assert [[value for value, _ in row] for row in dots] == [[10, 12], [20, 24, 22], [23]]
    assert [[round(height) for _, height in row] for row in dots] == [[0, 0], [1, 1, 1], [2]]
    assert len({height for _, height in dots[1]}) == 3
    bars = [line.get_xdata() for line in axes.lines if line.get_color() == summarize.BAR and len(line.get_xdata())]  # type: ignore[arg-type]
    assert [float(bar[0]) for bar in bars] == [11, 22, 23]  # type: ignore[index]
    (floor,) = [line for line in axes.lines if line.get_color() == summarize.FLOOR and len(line.get_xdata())]  # type: ignore[arg-type]
    assert float(floor.get_xdata()[0]) == FLOOR  # type: ignore[index]
    assert axes.get_xscale() == "linear" and axes.get_ylim()[0] > axes.get_ylim()[1]


def test_values_far_apart_are_drawn_on_a_logarithmic_axis_unless_one_is_negative(tmp_path: Path) -> None:
    put(tmp_path / "0", config(), [{"fid": record(400), "kid": record(-0.1)}])
    fid_axes, kid_axes = summarize.Report(tmp_path, ["fid", "kid"], None).draw().axes
    assert fid_axes.get_xscale() == "log" and kid_axes.get_xscale() == "linear"


# as commands


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Done]]:
    """A sweep over two rates and two seeds, of which one rate always fails, and what is said of it."""
    home = tmp_path_factory.mktemp("summarize")
    (home / "nothing").mkdir()
    done = run_in_turn(
        {
            "sweep": gan_train(
                "-m", *TINY, "run.dir=sweep", "run.seed=0,1", "schedule.generator.optimizer.lr=2e-4,1e30", cwd=home,
            ),
            "summarize": script("summarize.py", "sweep", "--baseline", "optimizer.lr=0.0002", cwd=home),
            "empty": script("summarize.py", "nothing", cwd=home),
        },
        home,
    )  # fmt: skip
    return home, done


def test_a_real_sweep_with_broken_jobs(commands: tuple[Path, dict[str, Done]]) -> None:
    home, done = commands
    assert done["sweep"].code == 1
    said = done["summarize"]
    assert said.code == 0 and said.err == ""
    content = json.loads((home / "sweep" / "summary.json").read_text())
    kinds = {setting["label"]: (setting["completed"], setting["failed"]) for setting in content["settings"]}
    assert kinds == {"optimizer.lr=0.0002": (2, 0), "optimizer.lr=1e+30": (0, 2)}
    assert list(content["scores"])[0] == "modes_captured" and content["scores"]["modes_captured"]["higher_is_better"]
    assert (home / "sweep" / "summary.md").read_text() in said.out
    (broken,) = [line for line in said.out.splitlines() if line.startswith("- optimizer.lr=1e+30, seeds 0, 1")]
    assert "failed: " in broken and "NaN or infinite" in broken
    assert said.out.splitlines()[-3:] == [f"sweep/summary.{kind}" for kind in ("md", "json", "png")]
    with Image.open(home / "sweep" / "summary.png") as image:
        assert image.format == "PNG" and image.width > 400


def test_a_folder_without_runs_is_one_line(commands: tuple[Path, dict[str, Done]]) -> None:
    done = commands[1]["empty"]
    assert done.code == 1 and done.out == ""
    assert done.lines == [
        "summarize.py: nothing: holds no runs; give the run.dir of a gan-train -m, which holds one folder a run"
    ]

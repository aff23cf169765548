"""What `gan-train --help` and `--version` say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gan_experiments.composition import options
from gan_experiments.config import conf_dir
from gan_experiments.errors import UserError
from gan_experiments.usage import help_text, sentence
from processes import Workshop, gan_train

CONF = Path(conf_dir())
OPTIONS = sorted(CONF.glob("*/*.yaml"))
GROUPS = sorted({path.parent.name for path in OPTIONS})
NO_TORCH = "import sys; sys.modules['torch'] = None; from gan_experiments.cli import main; main()"


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_option_has_a_sentence_at_the_top_of_its_file(path: Path) -> None:
    said = sentence(path)
    assert len(said.split()) > 1 and 8 <= len(said) <= 170 and "no comment" not in said, said
    assert not said.endswith((" al", "(", ",", ":", ";")) and said.count("(") == said.count(")"), said
    assert (
        not re.search("(?<!`)gan-train ", said) and "_target_" not in said and not said.startswith(path.stem + ":")
    ), said


def test_the_first_page_is_short_and_counts_the_options() -> None:
    lines = help_text([CONF]).splitlines()
    assert 30 <= len(lines) <= 42 and max(map(len, lines)) <= 80
    for group in GROUPS:
        (line,) = [line for line in lines if line.startswith(f"  {group} ")]
        assert line.split()[1] == str(len(list((CONF / group).glob("*.yaml"))))
    for part in ("run.dir=", "-m loss=", "--help loss=hinge", "--cfg job", "--version", "--hydra-help"):
        assert part in "\n".join(lines)
    (metric,) = [line for line in lines if line.startswith("  metric ")]
    assert metric.endswith("[fid,kid,inception_score]")


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_listed_with_a_sentence_an_option(group: str) -> None:
    text = help_text([CONF], ["--help", group])
    assert max(map(len, text.splitlines())) <= 80
    said = " ".join(text.split())
    for name in options([CONF], group):
        assert f" {name} {sentence(CONF / group / f'{name}.yaml')}" in said


def test_help_is_asked_for_in_many_ways() -> None:
    loss = help_text([CONF], ["--help", "loss"])
    assert loss == help_text([CONF], ["--help=loss"]) == help_text([CONF], ["loss", "-h"])
    assert help_text([CONF], ["--help", "loss", "trick"]) == f"{loss}\n\n\n{help_text([CONF], ['--help', 'trick'])}"
    squares = help_text([CONF], ["--help", "loss=least_squares"])
    for part in ("loss=least_squares", "LSGAN (Mao et al. 2017", "real_target: 1.0", "Targets a, b, c"):
        assert part in squares
    ways = (
        ["--help", "loss", "least_squares"],
        ["--help", "least_squares"],
        ["run.seed=1", "loss=least_squares", "-h"],
    )
    assert {help_text([CONF], way) for way in ways} == {squares}
    several = help_text([CONF], ["--help", "regularizer=[r1,lecam]"])
    assert "regularizer=r1\n" in several and "regularizer=lecam\n" in several
    assert "every: 40000" in help_text([CONF], ["--help", "checkpoint"])
    assert "seed: 0" in help_text([CONF], ["--help", "run.seed"]) and "_self_" not in help_text([CONF], ["-h", "run"])
    first = help_text([CONF])
    assert first == help_text([CONF], ["--help", "run.seed=1", "-m"]) == help_text([CONF], ["--cfg", "job", "--help"])


@pytest.mark.parametrize("topic", ["nonsense", "los=hinge", "loss=hing", "trick=[ada,adda]"])
def test_an_unknown_topic_is_answered_with_what_there_is(topic: str) -> None:
    with pytest.raises(UserError, match="no such (group|option); there is .*(hinge|loss|ada, apa)"):
        help_text([CONF], ["--help", topic])


def test_own_groups_and_options_are_listed(tmp_path: Path) -> None:
    for name, text in {
        "loss/mean.yaml": "# The mean of logits. And more.\n_target_: a.B\n",
        "mine/one.yaml": "{}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    folders = [CONF, tmp_path]
    assert "  mine           1  your own" in help_text(folders)
    assert "  mean  " in help_text(folders, ["-h", "loss"]) and "The mean of logits\n" in help_text(
        folders, ["-h", "loss"]
    )
    assert "(no comment at the top of one.yaml)" in help_text(folders, ["-h", "mine"])


def test_help_and_version_need_no_torch(tmp_path: Path) -> None:
    for arguments, code, said in (
        (["--help"], 0, "First commands"),
        (["--help", "trick"], 0, "label_smoothing"),
        (["--version"], 0, "gan-experiments 0.1.0 (Python 3"),
        (["--help", "nonsense"], 2, "gan-train: --help nonsense: no such group; there is conditioning"),
    ):
        command = [sys.executable, "-c", NO_TORCH, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == code and said in done.stdout + done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == (1 if code else 0)


def test_hydras_own_help_is_still_there(workshop: Workshop, tmp_path: Path) -> None:
    assert "--config-dir" in workshop.run(gan_train("--hydra-help", cwd=tmp_path)).out
    (tmp_path / "own" / "loss").mkdir(parents=True)
    (tmp_path / "own" / "loss" / "unheard_of.yaml").write_text("# Unheard of.\n")
    listed = workshop.run(gan_train("--config-dir", "own", "--help", "loss", cwd=tmp_path)).out
    assert "  unheard_of  " in listed and "Unheard of" in listed

"""Terminals that know ASCII or latin-1 alone: every command prints, and all files are UTF-8 as ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gan_experiments
from processes import SCRIPTS
from tiny import TINY

SOURCES = Path(gan_experiments.__file__).parents[1]
COMMANDS = sorted(path.name for path in SCRIPTS.glob("*.py") if "run_command(" in path.read_text(encoding="utf-8"))
PLAIN = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def run(*command: str | Path, cwd: Path, terminal: str) -> subprocess.CompletedProcess[bytes]:
    own = {"OMP_NUM_THREADS": "1", "HOME": str(cwd), "PYTHONPATH": str(SOURCES), "WANDB_MODE": "offline"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, cwd=cwd, env=kept | own | PLAIN[terminal],
        stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("terminal", PLAIN)
def test_commands_print_what_they_can_and_write_what_they_should(terminal: str, tmp_path: Path) -> None:
    train = run(
        "-m", "gan_experiments.cli", *TINY, "runtime.threads=1", "run.dir=é/日", cwd=tmp_path, terminal=terminal
    )
    assert train.returncode == 0 and b"Traceback" not in train.stderr, train.stderr
    assert b"Logging error" not in train.stderr
    text = (tmp_path / "é" / "日" / "gan-train.log").read_text(encoding="utf-8")
    assert "completed" in text
    score = run(SCRIPTS / "evaluate.py", "é/日", "--json", "scores.json", cwd=tmp_path, terminal=terminal)
    assert score.returncode == 0, score.stderr
    assert b"\\u2191" in score.stdout  # an arrow says which way is better
    assert "modes_captured" in (tmp_path / "scores.json").read_text(encoding="utf-8")
    table = run(SCRIPTS / "summarize.py", "é", cwd=tmp_path, terminal=terminal)
    assert table.returncode == 0, table.stderr
    assert "±" in (tmp_path / "é" / "summary.md").read_text(encoding="utf-8") or b"|" in table.stdout
    wrong = run("-m", "gan_experiments.cli", "loss=日本", cwd=tmp_path, terminal=terminal)
    assert wrong.returncode == 1 and b"no such option" in wrong.stderr and wrong.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_script_is_printed(name: str, tmp_path: Path) -> None:
    done = run(SCRIPTS / name, "--help", cwd=tmp_path, terminal="ascii")
    assert done.returncode == 0 and done.stdout, done.stderr


def test_files_asked_for_are_there_though_nobody_reads(tmp_path: Path) -> None:
    assert run("-m", "gan_experiments.cli", *TINY, "runtime.threads=1", "run.dir=a/0", cwd=tmp_path,
               terminal="C").returncode == 0  # fmt: skip
    for script, arguments in {"evaluate.py": ["a/0", "--json", "scores.json"], "summarize.py": ["a"]}.items():
        closed = [sys.executable, str(SCRIPTS / script), *arguments]
        subprocess.run(
            ["sh", "-c", 'exec "$0" "$@" >&-', *closed], cwd=tmp_path, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(SOURCES)}, timeout=300,
        )  # fmt: skip
    assert (tmp_path / "scores.json").exists() and (tmp_path / "a" / "summary.json").exists()

"""The command line of scripts/sample.py, without a run: endings of files, and what the help says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gan_experiments.errors import UserError


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "sample.py"
    spec = importlib.util.spec_from_file_location("sample", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(sample: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """What the command does before it loads the run."""
    monkeypatch.setattr(sys, "argv", ["sample.py", "run", *words])
    sample.check(sample.parse())


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.PNG", "sub/a.webm", "a.v2"])
def test_other_endings_are_refused(name: str, sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=rf"^{name}: files end in .png, .gif or .mp4; a folder") as error:
        check(sample, monkeypatch, "--out", name)
    assert "\n" not in str(error.value)


def test_folders_and_known_endings_are_taken(
    sample: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "v1.2").mkdir()
    for name in ("a.png", "folder", "folder/", "sub.1/folder", str(tmp_path / "v1.2")):
        check(sample, monkeypatch, "--out", name)
    check(sample, monkeypatch, "--interpolate", "slerp", "--out", "a.mp4")


def test_help_says_what_psi_takes(
    sample: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        check(sample, monkeypatch, "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "styles moved: 0 all to the mean one, 1 not at all, more away from it" in said

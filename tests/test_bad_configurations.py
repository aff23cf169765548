"""Folders of configurations and classes of a user's own: every fault names its file, its key or its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad_inputs import Bad, answer
from processes import Workshop

OWN = """\
from gan_experiments.objectives.adversarial import Hinge


class Broad(Hinge):
    def discriminator(self, contest):
        return contest.real.logits * 2


class Zero(Hinge):
    def discriminator(self, contest):
        return contest.real.logits.mean() * (1 // (1 - 1))


class Unknown(Hinge):
    def discriminator(self, contest):
        return missing_name


class Lacking(Hinge):
    def discriminator(self, contest):
        return contest.nothing()


class Start(Hinge):
    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = [][3]


class Typed(Hinge):
    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = len(3)


class Needing(Hinge):
    def __init__(self, strength: float, tags: list[str] | None = None) -> None:
        super().__init__()


class Stranger:
    pass


NUMBER = 3
"""
GLOBAL = "# @package _global_\n"
Files = dict[str, str | bytes]


def own(name: str, more: str = "") -> Files:
    """A loss of a class in mine/own.py."""
    return {"own.py": OWN, "loss/own.yaml": f"_target_: mine.own.{name}\n{more}"}


def loss(text: str | bytes, **files: str) -> Files:
    """A loss of this YAML, and modules."""
    return {"loss/own.yaml": text, **{f"{name}.py": content for name, content in files.items()}}


def experiment(text: str) -> Files:
    """An experiment of this YAML."""
    return {"experiment/own.yaml": text}


BAD: dict[str, tuple[Files, list[str]]] = {
    "wrong shape": (own("Broad"), ["your own Broad (mine/own.py:4)"]),
    "division": (own("Zero"), ["mine/own.py:11: ZeroDivisionError"]),
    "unknown name": (own("Unknown"), ["mine/own.py:16: NameError", "missing_name"]),
    "unknown attribute": (own("Lacking"), ["mine/own.py:21: AttributeError", "nothing"]),
    "fault at the start": (own("Start"), ["loss: mine/own.py:27: IndexError"]),
    "wrong type inside": (own("Typed"), ["loss: mine/own.py:33: TypeError"]),
    "argument missing": (own("Needing"), ["Needing needs 'strength'", "loss.strength"]),
    "argument of another type": (own("Needing", "strength: strong\n"), ["loss.strength=strong: must be a number"]),
    "argument that is no list": (own("Needing", "strength: 1\ntags: a\n"), ["loss.tags=a: must be a list of texts"]),
    "texts that are numbers": (own("Needing", "strength: 1\ntags: [2024_1]\n"), ["loss.tags.0=20241: must be text"]),
    "argument misspelt": (own("Needing", "strngth: 1\n"), ["loss.strngth", "did you mean strength?"]),
    "no loss": (own("Stranger"), ["loss: Stranger is not a loss"]),
    "no class": (own("NUMBER"), ["loss._target_=mine.own.NUMBER", "is no class or function"]),
    "class misspelt": (own("Zerro"), ["mine/own.py defines no Zerro; did you mean Zero?"]),
    "class of a network": (
        loss("_target_: gan_experiments.networks.mlp.MLPGenerator"), ["MLPGenerator needs 'spec'"]),
    "syntax": (loss("_target_: mine.code.X", code="x = 1\ndef broken(:\n"), ["mine/code.py:2: SyntaxError"]),
    "import": (loss("_target_: mine.code.X", code="import no_such_thing\n"), ["mine/code.py:1: ModuleNotFoundError"]),
    "fault on import": (loss("_target_: mine.code.X", code="\n1 / 0\n"), ["mine/code.py:2: ZeroDivisionError"]),
    "no module": (loss("_target_: elsewhere.code.X"), ["there is no module elsewhere.code", "PYTHONPATH"]),
    "module misspelt": (loss("_target_: gan_experiments.objectives.adversarail.Hinge"), ["gan_experiments.objectives"]),
    "bare class": (loss("_target_: Hinge"), ["must be the full name of a class"]),
    "number for a class": (loss("_target_: 3"), ["loss._target_=3: must be the name of a class"]),
    "no target": (loss("weight: 3"), ["loss: expected an option of this group (a node with _target_)"]),
    "empty": (loss(""), ["loss: expected an option of this group"]),
    "a list": (loss("- 1\n- 2\n"), ["loss: expected an option of this group", "[1, 2]"]),
    "text": (loss("just text\n"), ["loss: expected an option of this group"]),
    "not YAML": (loss("a: [1\nb: 2\n"), ["mine/loss/own.yaml:2: not YAML"]),
    "tab": (loss("a:\n\t- b\n"), ["mine/loss/own.yaml:2: not YAML"]),
    "key twice": (loss("_target_: a.B\n_target_: a.C\n"), ["mine/loss/own.yaml:2", "duplicate key"]),
    "bytes": (loss(b"\xff\xfe\x00bin"), ["mine/loss/own.yaml: not YAML: it isn't text in UTF-8"]),
    "latin-1": (loss("# é\n_target_: a.B".encode("latin-1")), ["mine/loss/own.yaml: not YAML: it isn't text in UTF-8"]),
    "defaults name themselves": (loss("defaults: [own]\n"), ["mine/loss/own.yaml: its defaults lead back to itself"]),
    "defaults in a circle": (
        loss("defaults: [other]\n") | {"loss/other.yaml": "defaults: [own]\n"}, ["its defaults lead back to itself"]
    ),
    "defaults that aren't": (loss("defaults: [nothere]\n"), ["loss=own: loss=nothere: no such option"]),
    "defaults as a number": (loss("defaults: 3\n"), ["Invalid defaults list in 'loss/own'"]),
    "experiment: option misspelt": (experiment(f"{GLOBAL}defaults: [override /loss: hing]"), ["did you mean hinge?"]),
    "experiment: group misspelt": (experiment(f"{GLOBAL}defaults: [/lossy: hinge]"), ["did you mean loss?"]),
    "experiment: two losses": (
        experiment(f"{GLOBAL}defaults: [override /loss: [hinge, wasserstein]]"), ["loss: a file chooses a list"]
    ),
    "experiment: key misspelt": (experiment(f"{GLOBAL}run: {{sede: 1}}"), ["did you mean run.seed?"]),
    "experiment: section misspelt": (experiment(f"{GLOBAL}sampels: {{every: 3}}"), ["did you mean samples?"]),
    "experiment: wrong type": (experiment(f"{GLOBAL}run: {{seed: one}}"), ["run.seed=one: must be a whole number"]),
    "experiment: exponent": (experiment(f"{GLOBAL}schedule: {{images: 1e6}}"), ["write it as 1000000"]),
    "experiment: number for a section": (experiment(f"{GLOBAL}schedule: 3"), ["schedule has keys"]),
    "experiment: number for a folder": (experiment(f"{GLOBAL}run: {{dir: 2024_11_28}}"), ["run.dir", "quotes"]),
    "experiment: number for a text": (experiment(f"{GLOBAL}run: {{objective: 7}}"), ["run.objective=7", "quotes"]),
    "experiment: no package": (experiment("run: {seed: 1}"), ["its first line must be: # @package _global_"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_configurations(name: str, workshop: Workshop, tmp_path: Path) -> None:
    files, says = BAD[name]

    def prepare(cwd: Path) -> None:
        for path, content in ({"__init__.py": ""} | files).items():
            (cwd / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
            (cwd / "mine" / path).write_bytes(content if isinstance(content, bytes) else content.encode())

    group = "loss" if "loss/own.yaml" in files else "experiment"
    bad = Bad([f"{group}=own"], says, prepare, first=("--config-dir", "mine"))
    answer(bad, workshop, tmp_path, f"import sys; sys.path.insert(0, {str(tmp_path)!r})")

"""Wrong options, runs and places given to the scripts: each is answered in one line, before any long work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from bad_inputs import Bad, answer
from processes import Workshop, gan_train
from tiny import TINY

Prepare = Callable[[Path], object]


def fill(name: str, text: str, cwd: Path) -> None:
    """Write a file."""
    (cwd / name).parent.mkdir(parents=True, exist_ok=True)
    (cwd / name).write_text(text)


def damaged(name: str, content: bytes, cwd: Path) -> None:
    """A run of which one file has another content."""
    shutil.copytree(cwd / "run", cwd / "broken")
    (cwd / "broken" / name).write_bytes(content)


def damage(name: str, content: bytes) -> Prepare:
    """Makes `broken`, a run of which one file has another content."""
    return partial(damaged, name, content)


def without(pattern: str, cwd: Path) -> None:
    """A run without some of its files."""
    shutil.copytree(cwd / "run", cwd / "broken")
    for path in (cwd / "broken").glob(pattern):
        path.unlink()


VOID: Prepare = lambda cwd: (cwd / "void").mkdir()  # noqa: E731
A_PNG: Prepare = lambda cwd: (cwd / "full.png").mkdir()  # noqa: E731
A_FILE, A_FOLDER = partial(fill, "file", ""), partial(fill, "full/000000.png", "")
KEPT, KEY, BARE = partial(fill, "o/kept/a", ""), partial(fill, "o/key.json", "{}"), partial(without, "checkpoints/*")
BAD = {
    "sample: no run": (["nowhere"], ["nowhere", "no generator.pt"], None),
    "sample: a folder that is none": (["full"], ["full", "no generator.pt"], A_FOLDER),
    "sample: an empty generator": (["broken"], ["broken/generator.pt"], damage("generator.pt", b"")),
    "sample: no checkpoint for raw weights": (["broken", "--raw"], ["no checkpoint"], BARE),
    "sample: count 0": (["run", "--count", "0"], ["--count 0", "1 or more"], None),
    "sample: count -3": (["run", "--count", "-3"], ["--count -3"], None),
    "sample: count in words": (["run", "--count", "many"], ["--count", "many"], None),
    "sample: one stop": (["run", "--interpolate", "lerp", "--stops", "1"], ["--stops 1", "2 or more"], None),
    "sample: out is a folder's name": (["run", "--out", "full.png"], ["--out full.png", "folder"], A_PNG),
    "sample: out below a file": (["run", "--out", "file/a.png"], ["--out file/a.png", "file"], A_FILE),
    "sample: folder below a file": (["run", "--out", "file/more"], ["--out file/more"], A_FILE),
    "sample: out holds samples": (["run", "--out", "full"], ["--out full", "already"], A_FOLDER),
    "sample: out is a device": (["run", "--out", "/dev/null"], ["/dev/null"], None),
    "sample: out cannot be written": (["run", "--out", "/proc/a.png"], ["--out /proc/a.png"], None),
    "sample: out has too long a name": (["run", "--out", f"{'n' * 300}.png"], ["--out", "too long"], None),
    "sample: a jpeg": (["run", "--out", "a.jpg"], ["a.jpg", ".png"], None),
    "sample: a film of no walk": (["run", "--out", "a.gif"], ["a.gif", "--interpolate"], None),
    "sample: two sheets": (["run", "--mix", "2", "2", "--interpolate", "lerp"], ["--mix", "--interpolate"], None),
    "sample: psi without styles": (["run", "--psi", "0.5"], ["psi", "styles"], None),
    "sample: cutoff alone": (["run", "--cutoff", "3"], ["--psi"], None),
    "sample: walks of points": (["run", "--interpolate", "lerp"], ["points"], None),
    "sample: classes of a run without": (["run", "--classes"], ["classes"], None),
    "sample: an unknown option": (["run", "--nmber", "3"], ["--nmber"], None),
    "sample: nothing": ([], ["run"], None),
    "evaluate: no such target": (["nowhere"], ["nowhere"], None),
    "evaluate: json is a folder": (["run", "--json", "full"], ["--json full", "folder"], A_FOLDER),
    "evaluate: json below a file": (["run", "--json", "file/a.json"], ["--json file/a.json"], A_FILE),
    "evaluate: json on a device": (["run", "--json", "/dev/null"], ["--json /dev/null"], None),
    "evaluate: pictures is a file": (["run", "--pictures", "file"], ["--pictures file"], A_FILE),
    "evaluate: unknown metric": (["run", "--metric", "fidd"], ["fidd", "fid"], None),
    "evaluate: unknown extractor": (["run", "--extractor", "vgg"], ["vgg", "inception"], None),
    "evaluate: unknown data set": (["run", "--dataset", "mnst"], ["mnst", "mnist"], None),
    "evaluate: no such checkpoint": (["run", "--checkpoints", "1000:"], ["1000:", "there is"], None),
    "evaluate: checkpoints in words": (["run", "--checkpoints", "newest"], ["newest"], None),
    "evaluate: samples 0": (["run", "--samples", "0"], ["--samples 0"], None),
    "evaluate: samples -1": (["run", "--samples", "-1"], ["--samples -1"], None),
    "evaluate: draws 0": (["run", "--draws", "0"], ["--draws 0"], None),
    "evaluate: no held-out share": (["run", "--reference", "full", "--held-out", "1.5"], ["--held-out 1.5"], A_FOLDER),
    "evaluate: two references": (["run", "--reference", "full", "--dataset", "ring"], ["--dataset"], A_FOLDER),
    "evaluate: unknown key": (["run", "evaluation.sample=3"], ["evaluation.sample=3"], None),
    "evaluate: unknown statistics": (["run", "--statistics", "frozen"], ["frozen", "standing"], None),
    "evaluate: a text file": (["file"], ["file"], A_FILE),
    "evaluate: a broken generator": (["broken"], ["broken/generator.pt"], damage("generator.pt", b"x")),
    "evaluate: a broken configuration": (["broken"], ["broken/config.json"], damage("config.json", b"{")),
    "evaluate: a folder without runs": (["void"], ["void"], VOID),
    "evaluate: a metric that does not fit": (["run", "--metric", "ms_ssim"], ["ms_ssim"], None),
    "filter_dataset: no data": (["--out", "o"], ["--dataset"], None),
    "filter_dataset: two": (["full", "--dataset", "ring", "--out", "o"], ["--dataset"], A_FOLDER),
    "filter_dataset: no out": (["--dataset", "fashion10k"], ["--out"], None),
    "filter_dataset: out is a file": (["--dataset", "fashion10k", "--out", "file"], ["--out file"], A_FILE),
    "filter_dataset: keep nothing": (["--dataset", "fashion10k", "--out", "o", "--keep", "0"], ["keep 0"], None),
    "filter_dataset: no steps": (["--dataset", "fashion10k", "--out", "o", "--steps", "0"], ["steps 0"], None),
    "filter_dataset: unknown distance": (["--dataset", "fashion10k", "--out", "o", "--distance", "l2"], ["l2"], None),
    "filter_dataset: missing folder": (["nowhere", "--size", "8", "--out", "o"], ["nowhere"], None),
    "filter_dataset: results there": (["--dataset", "fashion10k", "--out", "o"], ["o/kept", "already"], KEPT),
    "filter_dataset: points": (["--dataset", "ring", "--out", "o"], ["ring"], None),
    "human_sheet: no command": ([], ["command"], None),
    "human_sheet: odd count": (["make", "run", "--out", "o", "--count", "3"], ["--count 3", "even"], None),
    "human_sheet: no time": (["make", "run", "--out", "o", "--seconds", "0"], ["--seconds"], None),
    "human_sheet: points": (["make", "run", "--out", "o"], ["run", "points"], None),
    "human_sheet: out is a file": (["make", "run", "--out", "file"], ["--out file"], A_FILE),
    "human_sheet: a key is there": (["make", "run", "--out", "o"], ["key.json", "another folder"], KEY),
    "human_sheet: three sources": (["make", "a", "b", "c", "--out", "o"], ["two folders"], None),
    "human_sheet: no key": (["score", "key.json", "a.json"], ["key.json"], None),
    "human_sheet: another file as key": (["score", "file", "file"], ["file"], A_FILE),
    "summarize: no folder": (["nowhere"], ["nowhere", "folder of a sweep"], None),
    "summarize: twice": (["run", "run"], ["run"], None),
    "summarize: a file": (["file"], ["file"], A_FILE),
    "summarize: an empty folder": (["void"], ["void", "no runs"], VOID),
    "summarize: unknown score": ([".", "--scores", "fid"], ["--scores fid", "modes_captured"], None),
    "summarize: unknown baseline": ([".", "--baseline", "none"], ["--baseline none"], None),
    "compare: one place": (["run"], ["run"], None),
    "compare: no such place": (["run", "nowhere"], ["nowhere"], None),
    "compare: unknown score": (["a=run", "b=broken", "--score", "fid"], ["--score fid"], damage("run_id", b"x")),
    "compare: json is a folder": (["a=run", "b=run", "--json", "full"], ["--json full"], A_FOLDER),
    "curves: no run": (["nowhere", "--out", "c.png"], ["nowhere"], None),
    "curves: no score": (["run", "--out", "c.png"], ["fid", "modes_captured"], None),
    "curves: out is no picture": (["run", "--score", "modes_captured", "--out", "c.pdf"], ["c.pdf", ".png"], None),
    "curves: below a file": (["run", "--score", "modes_captured", "--out", "file/c.png"], ["--out file/c.png"], A_FILE),
    "curves: no records": (["broken", "--out", "c.png"], ["metrics.jsonl:1"], damage("metrics.jsonl", b"x\n")),
    "traverse: one column": (["run", "--columns", "1"], ["--columns 1", "2 or more"], None),
    "traverse: columns 0": (["run", "--columns", "0"], ["--columns 0"], None),
    "traverse: no codes": (["run"], ["codes", "infogan"], None),
    "traverse: out is a file": (["run", "--out", "file"], ["--out file"], A_FILE),
    "vanishing_gradients: no steps": (["--out", "o", "--steps", "0"], ["--steps 0"], None),
    "vanishing_gradients: unknown key": (["--out", "o", "run.sede=1"], ["sede"], None),
    "vanishing_gradients: out is a file": (["--out", "file"], ["--out file"], A_FILE),
    "convergence: no steps": (["--out", "o", "--steps", "0"], ["--steps 0"], None),
    "convergence: out is a file": (["--out", "file"], ["--out file"], A_FILE),
    "train_classifier: output is a folder": (["data", "--output", "full"], ["--output full"], A_FOLDER),
    "prepare_fashion10k: no files": (["nowhere", "--output", "a.npz"], ["nowhere"], None),
    "prepare_fashion10k: output is a folder": (["nowhere", "--output", "full"], ["--output full"], A_FOLDER),
    "reproduce/seeds: no seeds": (["--dir", "o", "--seeds", "0"], ["--seeds 0"], None),
    "reproduce/seeds: its own key": (["--dir", "o", "run.seed=3"], ["run.seed"], None),
    "reproduce/mode_coverage: dir is a file": (["--dir", "file"], ["--dir file"], A_FILE),
    "reproduce/architectures: grids is a folder": (["--dir", "o", "--grids", "full"], ["--grids full"], A_FOLDER),
    "reproduce/sanity: json is a folder": (["--json", "full"], ["--json full"], A_FOLDER),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one finished run."""
    cwd = tmp_path_factory.mktemp("finished")
    done = workshop.run(gan_train(*TINY, "run.dir=run", cwd=cwd))
    assert done.code == 0, done.err
    yield cwd


@pytest.mark.parametrize("name", BAD)
def test_bad_tools(name: str, finished: Path, workshop: Workshop, tmp_path: Path) -> None:
    arguments, says, prepare = BAD[name]
    shutil.copytree(finished / "run", tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    answer(Bad(arguments, says, prepare, script=f"{name.partition(':')[0]}.py"), workshop, tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "completed"

"""What is typed and can't be meant is refused in one line that says what to type, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bad_inputs import Bad, answer
from processes import Workshop, gan_train
from tiny import TINY


def alone(*arguments: str, says: list[str]) -> Bad:
    """Arguments that are all there is."""
    return Bad(arguments, says, tiny=False)


BAD = {
    "no key": alone("=3", says=["=3: has no key", "run.seed=3"]),
    "no value": alone("run.seed=", says=["run.seed=: is empty"]),
    "no equals": alone("run.seed", "1", says=["run.seed: is not key=value; write run.seed=1"]),
    "colon": alone("run.seed:", "1", says=["write run.seed=1"]),
    "colon inside": alone("run.seed:1", says=["write run.seed=1"]),
    "spaces around": alone("run.seed", "=", "1", says=["write run.seed=1"]),
    "space before": alone(" run.seed=1", says=["write run.seed=1"]),
    "equals twice": alone("run.seed==1", says=["has = twice; write run.seed=1"]),
    "two dots": alone("run..seed=1", says=["run..seed", "write run.seed=1"]),
    "dot at the end": alone("run.seed.=1", says=["write run.seed=1"]),
    "dashes": alone("--run.seed=1", says=["--run.seed=1", "write run.seed=1"]),
    "dashes and a space": alone("--run.seed", "1", says=["write run.seed=1"]),
    "one dash": alone("-run.seed=1", says=["write run.seed=1"]),
    "group with dashes": alone("--loss=hinge", says=["write loss=hinge"]),
    "option that isn't": alone("--frobnicate", says=["--frobnicate: no such option"]),
    "word misspelt": alone("--multrun", "run.seed=0,1", says=["did you mean --multirun?"]),
    "long dash": alone("–m", "run.seed=0,1", says=["–m", "write -m"]),
    "longer dash": alone("—run.seed=1", says=["write run.seed=1"]),
    "typographic quotes": alone("run.dir=“mine”", says=["typographic quotes; write run.dir=mine"]),
    "-m between": alone("loss=hinge", "-m", "run.seed=0,1", says=["-m", "gan-train -m loss=hinge run.seed=0,1"]),
    "--config-dir between": Bad(
        ["--config-dir", "mine", "loss=hinge"], ["--config-dir", "before or after all key=value"],
        lambda cwd: (cwd / "mine").mkdir(),
    ),
    "twice": alone("run.seed=0", "run.seed=1", says=["run.seed=0 and run.seed=1", "-m run.seed=0,1"]),
    "twice with a plus": alone("run.seed=0", "+run.seed=1", says=["run.seed is given twice"]),
    "experiments twice": alone("experiment=ring", "experiment=grid", says=["experiment is given twice"]),
    "metrics twice": alone("metric=[fid]", "metric=[kid]", says=["metric is given twice", "metric=[fid,kid]"]),
    "two losses": Bad(["loss=[hinge,wasserstein]"], ["one loss is meant", "-m loss=hinge,wasserstein"]),
    "two models": Bad(["model=[dcgan,mlp]"], ["model=[dcgan,mlp]: one model is meant"]),
    "two schedules": Bad(["schedule=[linear,constant]"], ["one schedule is meant"]),
    "two data sets": Bad(["dataset=[ring,grid]"], ["one dataset is meant"]),
    "a list of one": Bad(["runtime=[auto]"], ["one runtime is meant", "runtime=auto"]),
    "losses without -m": Bad(["loss=hinge,wasserstein"], ["need -m", "gan-train -m loss=hinge,wasserstein"]),
    "tricks without brackets": Bad(["trick=ema,ada"], ["write trick=[ema,ada]"]),
    "numbers without -m": Bad(["run.seed=0,1"], ["need -m"]),
    "trick twice": Bad(["trick=[ema,ema]"], ["trick=[ema,ema]: ema is there twice"]),
    "none and others": Bad(["regularizer=[none,r1]"], ["none goes with no others", "regularizer=[r1]"]),
    "option misspelt in a list": Bad(["trick=[emma]"], ["trick=emma: no such option; did you mean ema?"]),
    "option misspelt": Bad(["loss=hing"], ["loss=hing: no such option; did you mean hinge?"]),
    "null for a group": Bad(["model=null"], ["model=null"]),
    "null where none is": Bad(["trick=null"], ["write trick=none"]),
    "group misspelt": Bad(["lossy=hinge"], ["lossy", "did you mean loss?"]),
    "group with a package": Bad(["loss@other=hinge"], ["loss@other"]),
    "group added": Bad(["+loss=hinge"], ["loss is chosen already", "without +"]),
    "option taken away": Bad(["~loss=wasserstein"], ["~loss=wasserstein", "another one"]),
    "section key misspelt": Bad(["run.sede=1"], ["run.sede: no such key; did you mean run.seed?"]),
    "section key added": Bad(["+run.sede=1"], ["did you mean run.seed?"]),
    "component key misspelt": Bad(["loss.reel_target=1"], ["loss.reel_target", "did you mean loss.real_target?"]),
    "component key added": Bad(["+model.generator.widht=1"], ["model.generator.widht", "MLPGenerator takes no widht"]),
    "key of another section": Bad(["a.b=1"], ["a.b: there is no group or section a"]),
    "key below a number": Bad(["run.seed.x=3"], ["run.seed is a whole number"]),
    "section as a number": Bad(["run=3"], ["run has keys", "run.seed"]),
    "key taken away": Bad(["~run.seed"], ["~run.seed: can't be left out"]),
    "brace": Bad(["run.seed={a"], ["run.seed={a: can't be read"]),
    "interpolation": Bad(["run.data=${nope}"], ["run.data: ${nope} names no key"]),
    "variable": Bad(["run.data=${oc.env:NO_SUCH}"], ["the environment variable NO_SUCH is not set"]),
    "value split at spaces": alone(
        "schedule.ema.half_life={_target_:", "gan_experiments.curves.Linear,", "start:", "-5}", says=["in quotes"]
    ),
    "options without brackets": Bad(["metric=fid", "kid"], ["kid: is not key=value; write metric=[fid,kid]"]),
    "losses one after the other": Bad(["loss=hinge", "wasserstein"], ["-m loss=hinge,wasserstein"]),
    "key of the root added": Bad(["+foo=3"], ["foo: there is no group or section foo"]),
    "null for no experiment": Bad(["experiment=null"], ["experiment=null", "leave it out"]),
    "empty number": Bad(["log.every="], ["log.every=: is empty; must be a whole number"]),
    "empty text": Bad(["logger=wandb", "logger.name="], ["logger.name=: is empty"]),
    "no folder of data": Bad(["run.data="], ["run.data=: is empty; give a folder"]),
    "a sweep with a misspelt option": alone("-m", "loss=hinge,hing", says=["loss=hing: no such option"]),
    "a sweep over lists of losses": alone("-m", "loss=[hinge,wasserstein],hinge", says=["one loss is meant"]),
    "no folder of configurations": alone("--config-dir", "nope", "loss=hinge", says=["--config-dir nope: there is no"]),
    "file for a folder": Bad(
        ["--config-dir", "file"], ["--config-dir file: is a file"], lambda cwd: (cwd / "file").touch(), tiny=False
    ),
    "no folder": alone("run.dir=", says=["run.dir=: is empty"]),
    "no folder in quotes": alone("run.dir=''", says=["run.dir=''", "is empty"]),
    "folder null": Bad(["run.dir=null"], ["""run.dir="'null'\""""]),
    "folder None": Bad(["run.dir=None"], ["""run.dir="'None'\""""]),
    "home of a shell": Bad(["run.dir=~/runs"], ["write run.dir=$HOME/runs"]),
    "None for null": Bad(["logger=wandb", "logger.group=None"], ["write logger.group=null", "'None'"]),
    "experiment and another model": alone(
        "experiment=grid", "model=dcgan", says=["made for model=mlp and sets model.generator.hidden, which model=dcgan"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_command_lines(name: str, workshop: Workshop, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    answer(BAD[name], workshop, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - before <= {"run", "outputs", "mine", "file"}


TEXTS = ("1_0", "10", "1e3", "007", "true", "nan", "-inf", "2024_11_28", "[x]", "{}", "a=b", "a:b", "a b (c)", "it's",
         'say "x"', "日本é", "#1", "100%", "back\\", "a\\'b")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_arrive_as_they_are_typed(text: str, workshop: Workshop, tmp_path: Path) -> None:
    """The folder of a run, a component's text and one in a list."""
    arguments = ["logger=wandb", f"run.dir={text}", f"logger.name={text}", "logger.tags=[1_0,b]"]
    lines = [line for line in TINY if not line.startswith("logger")]
    done = workshop.run(gan_train("--cfg", "job", *lines, *arguments, cwd=tmp_path))
    assert done.code == 0, done.err
    shown = yaml.safe_load(done.out)
    assert shown["run"]["dir"] == text and shown["logger"]["name"] == text
    assert shown["logger"]["tags"] == ["1_0", "b"]


def test_two_folders_that_python_would_take_for_one_number_are_two(workshop: Workshop, tmp_path: Path) -> None:
    for name in ("1_0", "10"):
        done = workshop.run(gan_train(*TINY, f"run.dir={name}", cwd=tmp_path))
        assert done.code == 0, done.err
        assert (tmp_path / name / "status.json").exists()


def test_texts_arrive_in_sweeps(workshop: Workshop, tmp_path: Path) -> None:
    for name in ("2024_11_28", "007"):
        (tmp_path / name).mkdir()
    lines = [line for line in TINY if not line.startswith("dataset")]
    arguments = ["dataset=folder", "dataset.path=2024_11_28,007", "run.dir=1_0"]
    done = workshop.run(gan_train("-m", *lines, *arguments, cwd=tmp_path))
    assert done.code == 1 and (tmp_path / "1_0" / "1").is_dir()
    for name in ("2024_11_28", "007"):
        assert f"{name}: no images" in done.err or f"{name}" in done.err, done.err
    assert "20241128" not in done.err

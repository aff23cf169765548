"""Every option on disk composes and builds, every experiment takes two steps; new YAML files are found."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from hydra.errors import HydraException
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_experiments.assembly import build_game, build_players, build_terms, build_tricks
from gan_experiments.composition import SEVERAL, group_option, unknown_keys
from gan_experiments.config import build, build_named, conf_dir
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Term
from gan_experiments.logging.status import State, read_status
from gan_experiments.schema import COMPONENTS, Config, typed
from gan_experiments.trainer import Observer
from recipes import given_data, quickly_scored, small, stand_in
from tiny import TINY

CONF = Path(conf_dir())
GROUPS = {folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
          for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"}  # fmt: skip
OPTIONS = [(group, option) for group, options in GROUPS.items() if group != "experiment" for option in options]


def test_there_are_options_in_every_group() -> None:
    assert set(COMPONENTS) | {"schedule", "optimizer", "runtime", "experiment"} == set(GROUPS)
    assert all(GROUPS.values())


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_its_keys_are_the_constructors(
    group: str, option: str, composed: Callable[..., DictConfig]
) -> None:
    config = composed(f"{group}=[{option}]" if group in SEVERAL else f"{group}={option}")
    typed(config)
    package = "schedule" if group == "optimizer" else group  # whose nodes it exchanges
    for where, node in nodes(config[package], package):
        target = get_method(node["_target_"])
        parameters = [name for name in inspect.signature(target).parameters if name not in ("self", "spec", "tricks")]
        given = [str(key) for key in node if not str(key).startswith("_") and key != "about"]
        if where.endswith("optimizer"):  # null stands for what another optimizer took; the rest keeps torch's defaults
            given = [key for key in given if node[key] is not None or key in parameters]
        else:
            assert sorted(given) == sorted(parameters), f"{where} lists other keys than {node['_target_']} takes"
        assert set(given) <= set(parameters)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds(
    group: str, option: str, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, what can't be had is one line that names the place looked at (its reading is tested in test_data.py)."""
    line = [f"{group}=[{option}]" if group in SEVERAL else f"{group}={option}"]
    monkeypatch.setattr("urllib.request.urlopen", offline)
    if (group, option) == ("dataset", "folder"):
        line.append(f"dataset.path={pictures(tmp_path / 'pictures')}")
    settings = typed(composed(*line))
    try:
        assert builders(settings)[group]() is not None
    except UserError as error:
        assert group == "dataset" and "no network here" in str(error)
        assert str(tmp_path / "data") in str(error) and "\n" not in str(error)


def offline(*_: object, **__: object) -> None:
    """Stands in for a download."""
    raise URLError("no network here")


def builders(settings: Config) -> dict[str, Callable[[], Any]]:
    """How a test makes the objects of each group."""
    spec = Spec((1, 32, 32), tuple("abc"))
    return {
        "model": lambda: build_game(settings, spec),
        "loss": lambda: build_terms(settings),
        "regularizer": lambda: all_parts(build_named(settings.regularizer, "regularizer")),
        "conditioning": lambda: build_tricks(settings),
        "trick": lambda: build_tricks(settings),
        "dataset": lambda: build(settings.dataset, "dataset"),
        "metric": lambda: build_named(settings.metric, "metric"),
        "extractor": lambda: build_named(settings.extractor, "extractor"),
        "logger": lambda: build(settings.logger, "logger"),
        "schedule": lambda: build_players(settings, build_game(settings, spec), build_terms(settings)[0]),
        "optimizer": lambda: build_players(settings, build_game(settings, spec), build_terms(settings)[0]),
        "runtime": lambda: settings.runtime,
    }


def all_parts(parts: dict[str, Any]) -> dict[str, Any]:
    assert all(isinstance(part, Term | Observer) for part in parts.values())
    return parts


def pictures(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    for number in range(20):
        Image.new("RGB", (40, 30), (number, 2 * number, 0)).save(folder / f"{number}.png")
    return folder


def nodes(value: Any, where: str) -> list[tuple[str, DictConfig]]:
    """All nodes with a `_target_` below a value, with their places."""
    if not isinstance(value, DictConfig):
        return []
    found = [(where, value)] if "_target_" in value else []
    return found + [pair for key in value for pair in nodes(value._get_node(key), f"{where}.{key}")]


@pytest.mark.parametrize("experiment", GROUPS["experiment"])
def test_every_experiment_takes_two_steps(
    experiment: str, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own data where they are at hand, else on random images of their shape; as small as it says it may be."""
    monkeypatch.setattr("urllib.request.urlopen", offline)
    stand_in(monkeypatch)
    config = composed(
        f"experiment={experiment}", "logger=none", "schedule.steps=2", "schedule.images=null", "schedule.batch_size=8",
        "evaluation.samples=50", "evaluation.batch_size=25", "evaluation.draws=1", "samples.count=4",
        "run.objective=null", *small(experiment),
    )  # fmt: skip
    run(quickly_scored(given_data(config, tmp_path)), tmp_path / "run")
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None and status.state is State.COMPLETED and status.step == 2


@pytest.mark.parametrize("experiment", GROUPS["experiment"])
def test_experiments_set_only_what_their_components_list(experiment: str, composed: Callable[..., DictConfig]) -> None:
    """As the command line checks it; here against the group's own YAML, composed without the experiment."""
    config = composed(f"experiment={experiment}")
    for group in COMPONENTS:
        options = {option: group_option([CONF], group, [option]) for option in GROUPS[group]}
        node: Any = OmegaConf.to_container(config[group])
        known = (
            {name: value for option in options.values() for name, value in option.items()}
            if group in SEVERAL
            else next((o for o in options.values() if o["_target_"] == node["_target_"]), {})
        )
        assert list(unknown_keys(node, known, group)) == []


MISSPELT = ["run.sede=1", "schedule.image=3", "schedule.generator.optimiser={}", "runtime.precison=auto",
            "model.generator.widht=3", "regularizer.r1.wieght=1", "evaluation.sample=5", "sampels.every=3"]  # fmt: skip


@pytest.mark.parametrize("override", MISSPELT)
def test_misspelt_keys_do_not_compose(override: str, composed: Callable[..., DictConfig]) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)):
        composed("regularizer=[r1]", override)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["schedule.steps=5"], "schedule.images=[0-9]+ and schedule.steps=5: set one"),
        (["schedule.images=null"], "set one of them"),
        (["schedule.batch_size=0"], "schedule.batch_size=0: must be 1 or more"),
        (["evaluation.every=-1"], "evaluation.every=-1"),
        (["runtime.penalties=exact"], "runtime.penalties=exact"),
        (["regularizer=[r1]", "regularizer.r1.weight=nan"], "regularizer.r1.weight=nan: must be a finite number"),
        (["schedule.generator.optimizer.betas=[0.5,inf]"], "generator.optimizer.betas.1=inf: must be a finite number"),
    ],
)
def test_contradictory_values_are_refused(overrides: list[str], said: str, composed: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match=said):
        typed(composed(*overrides))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=dcgan"], "model.*DCGANGenerator makes images, but the data are points"),
        (["metric=[fid]", "dataset=fashion10k", "model=dcgan", "extractor=none"], "extractor"),
        (["run.objective=fidd"], "run.objective=fidd: no such score; the chosen metrics give modes"),
        (["metric=[parzen]", "metric.parzen.tuning=50", "run.objective=fid"], "objective=fid: no such .* give parzen"),
        (["schedule.order=[generator]"], "schedule.order"),
        (["regularizer=[r1]", "regularizer.r1.player=critic"], "r1 .player critic.*discriminator, generator"),
        (["+schedule.generator.optimizer.momentum=1"], "schedule.generator.optimizer.momentum: Adam takes no momentum"),
        (["schedule.generator.optimizer._target_=torch.optim.Adan"], "torch.optim defines no Adan; did you mean Adam."),
        (["regularizer=[r1]", "regularizer.r1.every=0"], "regularizer.r1.*every=0"),
        (["+model.generator.foo=1"], "model.*foo"),
        (["regularizer=[r1]", "regularizer.r1=3"], "regularizer.r1: expected an option"),
        (["schedule.ema.buffers=no"], "schedule.ema.buffers"),
        (["schedule.discriminator.moves=0"], "moves=0"),
    ],
)
def test_what_does_not_fit_is_refused_before_training_with_its_place(
    overrides: list[str], said: str, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    given = {line.split("=")[0] for line in overrides}
    base = [line for line in TINY if line.split("=")[0] not in given]
    if "dataset=fashion10k" in overrides:
        base = [line for line in base if not line.startswith(("dataset.", "model."))]
    if "model=dcgan" in overrides:
        base = [line for line in base if not line.startswith("model.")]
    with pytest.raises(UserError, match=said) as error:
        run(composed(*base, *overrides), tmp_path / "run")
    assert "\n" not in str(error.value)
    status = read_status(tmp_path / "run" / "status.json")
    assert status is None or status.state is State.FAILED

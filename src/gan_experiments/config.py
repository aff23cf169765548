"""The schema of the root configuration, its resolvers, and build(): the only place that makes objects from YAML."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from gan_experiments.errors import UserError

HERE = Path(__file__).resolve().parent
COMPONENTS = ("model", "loss", "regularizer", "conditioning", "trick", "dataset", "metric", "extractor", "logger")


@dataclass
class RunConfig:
    """Where the run lives and what it reports."""

    dir: str = "???"
    seed: int = 0
    data: str = "data"
    objective: str | None = None
    debug: bool = False


@dataclass
class PlayerConfig:
    """Tempo and optimizer of one player, and the weight of its share of the loss (a number or a curve).

    `lr_factor` multiplies its rate; `lazy` says whether lazy terms join an update or get separate ones.
    """

    moves: int = 1
    optimizer: Any = None
    lr_factor: float = 1.0
    adversarial: Any = 1.0
    lazy: str = "joined"


@dataclass
class EmaConfig:
    """Moving average of the generator's weights; half-life in images (a number or a curve), 0 keeps the raw weights."""

    half_life: Any = 0
    buffers: str = "copy"


@dataclass
class ScheduleConfig:
    """Length and tempo of a run; without an `order` the discriminator, where there is one, moves first."""

    images: int | None = None
    steps: int | None = None
    batch_size: int = 64
    order: list[str] | None = None
    simultaneous: bool = False
    discriminator: PlayerConfig = field(default_factory=PlayerConfig)
    generator: PlayerConfig = field(default_factory=PlayerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)


@dataclass
class RuntimeConfig:
    """Device, precision and the like; `auto` or null lets the program choose."""

    device: str = "auto"
    precision: str = "auto"
    penalties: str = "float32"
    channels_last: bool | None = None
    threads: int | None = None
    deterministic: bool = False


@dataclass
class LogConfig:
    """How often records are written, in images; whether each weight of a tiny game is recorded every step, and how many
    of the largest singular values of every weight go into a record."""

    every: int = 5000
    parameters: bool = False
    singular_values: int = 0


@dataclass
class SamplesConfig:
    """Grids of samples at fixed latents."""

    every: int = 40000
    count: int = 100


@dataclass
class EvaluationConfig:
    """Scores: how often, on how many generated samples, in which batches, and whether raw weights are scored too.

    `statistics` says which ones batch norms use; standing ones are averages over `standing_batches` fresh batches.
    `cache` is the folder in which what follows from real data alone is kept; None keeps nothing.
    """

    every: int = 40000
    samples: int = 10000
    batch_size: int = 250
    reals: int | None = None
    quantise: str = "round"
    draws: int = 1
    statistics: str = "running"
    standing_batches: int = 100
    cache: str | None = None
    raw: bool = False


@dataclass
class CheckpointConfig:
    """How often the whole state is written, and how many states are kept."""

    every: int = 40000
    keep: int = 2


@dataclass
class Config:
    """The root configuration; components are plain YAML with a `_target_`."""

    run: RunConfig = field(default_factory=RunConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    log: LogConfig = field(default_factory=LogConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    model: Any = None
    loss: Any = None
    regularizer: Any = None
    conditioning: Any = None
    trick: Any = None
    dataset: Any = None
    metric: Any = None
    extractor: Any = None
    logger: Any = None


def register() -> None:
    """Make the schema known to Hydra, and the arithmetic that configuration files may use."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("multiply", lambda a, b: a * b, replace=True)


def conf_dir() -> str:
    """The folder of configuration groups: inside an installed package, beside src/ in a checkout."""
    for folder in (HERE / "conf", HERE.parents[1] / "conf"):
        if (folder / "config.yaml").is_file():
            return str(folder)
    raise UserError(f"no configuration: neither {HERE / 'conf'} nor {HERE.parents[1] / 'conf'} holds config.yaml")


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """The default configuration with these overrides; UserError in one line when it doesn't compose."""
    register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=conf_dir(), version_base="1.3"):
            return compose("config", ["run.dir=unused", *overrides])
    except HydraException as error:
        raise UserError(" ".join(str(error).split())) from error


def typed(config: DictConfig) -> Config:
    """The root configuration as dataclasses, components left as they are; UserError for contradictory values."""
    config = OmegaConf.merge(OmegaConf.structured(Config), config)  # type: ignore[assignment]
    result = Config(**{name: config[name] for name in COMPONENTS})
    for name in ("run", "schedule", "runtime", "log", "samples", "evaluation", "checkpoint"):
        setattr(result, name, OmegaConf.to_object(config[name]))
    _check(result)
    return result


def _check(config: Config) -> None:
    schedule, runtime = config.schedule, config.runtime
    if (schedule.images is None) == (schedule.steps is None):
        raise UserError(
            f"schedule.images={schedule.images} and schedule.steps={schedule.steps}: set one of them, "
            "the other to null (steps counts turns of all players)"
        )
    positive = {
        "schedule.images": schedule.images, "schedule.steps": schedule.steps,
        "schedule.batch_size": schedule.batch_size, "log.every": config.log.every,
        "samples.every": config.samples.every, "samples.count": config.samples.count,
        "evaluation.every": config.evaluation.every, "evaluation.samples": config.evaluation.samples,
        "evaluation.batch_size": config.evaluation.batch_size, "evaluation.draws": config.evaluation.draws,
        "evaluation.reals": config.evaluation.reals, "evaluation.standing_batches": config.evaluation.standing_batches,
        "checkpoint.every": config.checkpoint.every,
        "checkpoint.keep": config.checkpoint.keep, "runtime.threads": runtime.threads,
    }  # fmt: skip
    for name, value in positive.items():
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: must be 1 or more")
    if config.log.singular_values < 0:
        raise UserError(f"log.singular_values={config.log.singular_values}: must be 0 (none) or more")
    for name, player in (("discriminator", schedule.discriminator), ("generator", schedule.generator)):
        if player.lazy not in ("joined", "separate"):
            raise UserError(f"schedule.{name}.lazy={player.lazy}: use joined or separate (updates of their own)")
    if runtime.penalties not in ("float32", "reduced"):
        raise UserError(f"runtime.penalties={runtime.penalties}: use float32 or reduced (the networks' precision)")


def build(node: Any, where: str, *arguments: Any, **given: Any) -> Any:
    """The object a configuration node describes, its constructor given `arguments` first; `where` names the node.

    Raises UserError naming the node when it has no `_target_` or its constructor refuses the values.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{where}: expected an option of this group (a node with _target_), got {_short(node)}")
    node = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    try:
        if not arguments and not given:
            return instantiate(node, _convert_="all")
        # Hydra would turn arguments that are dataclasses into dicts, so the last call is made here.
        return instantiate(node, _convert_="all", _partial_=True)(*arguments, **given)
    except InstantiationException as error:
        raise _explain(error, where) from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error


def build_named(node: Any, where: str) -> dict[str, Any]:
    """The objects of a multi-select group, by name; each value is a node with a `_target_`."""
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        raise UserError(f"{where}: expected named options, e.g. {where}=[...] on the command line, got {_short(node)}")
    return {str(name): build(child, f"{where}.{name}") for name, child in node.items()}


def build_settings(node: Any, where: str) -> tuple[Any, dict[str, Any]]:
    """The callable a node's `_target_` names, and its other values with nested curves built."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{where}: expected a node with _target_ such as torch.optim.Adam, got {_short(node)}")
    try:
        target = get_method(node["_target_"])
    except (ImportError, ValueError) as error:
        raise UserError(f"{where}: no such function or class: {node['_target_']}") from error
    return target, {str(key): _setting(node, key, where) for key in node if key != "_target_"}


def build_number(node: Any, where: str) -> Any:
    """A number as it is, or the curve that a node describes."""
    return build(node, where) if isinstance(node, Mapping) else node


def _setting(node: Any, key: Any, where: str) -> Any:
    value = node[key]
    if isinstance(value, Mapping):
        return build(value, f"{where}.{key}")
    if isinstance(value, list | ListConfig):
        return [_setting(value, index, f"{where}.{key}") for index in range(len(value))]
    return value


def _explain(error: BaseException, where: str) -> UserError:
    """The user's own mistake when one lies beneath, else the innermost cause, said with its place."""
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return UserError(f"{where}: {cause}")
    text = re.sub(r"\s+", " ", str(cause if cause is not error else error)).strip()
    place = re.search(r"full_key: (\S+)", str(error))
    return UserError(f"{where}{' (' + place[1] + ')' if place and place[1] != where else ''}: {text}")


def _short(node: Any) -> str:
    text = str(OmegaConf.to_container(node)) if isinstance(node, DictConfig | ListConfig) else repr(node)
    return text if len(text) <= 100 else text[:97] + "..."


def compose_option(group: str, option: str, data: str) -> dict[str, Any]:
    """One option of a group, with those it is based on, as plain values, `run.data` filled in; UserError for none."""
    path = Path(conf_dir()) / group / f"{option}.yaml"
    if not path.is_file():
        options = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise UserError(f"no {group} called {option}; there is {options}")
    node = OmegaConf.create({"run": {"data": data}, group: OmegaConf.load(path)})
    content = dict(plain(node)[group] or {})
    bases = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    return {key: value for base in bases for key, value in compose_option(group, base, data).items()} | content


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain dicts, lists and scalars."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[return-value]

"""The schema of the root configuration: its sections, their defaults, and which values contradict one another."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_experiments.errors import UserError
from gan_experiments.kinds import Kind
from gan_experiments.ranges import within_range
from gan_experiments.signatures import signature_of

MOST_THREADS = 1024
"""More than any machine has use for; libraries end the process when the system grants no more."""

COMPONENTS = ("model", "loss", "regularizer", "conditioning", "trick", "dataset", "metric", "extractor", "logger")
SECTIONS = ("run", "schedule", "runtime", "log", "samples", "evaluation", "checkpoint")


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
    """Length and tempo of a run; without an `order` the discriminator, where there is one, moves first.

    `players` holds the settings of players of other names, for games that have such.
    """

    images: int | None = None
    steps: int | None = None
    batch_size: int = 64
    order: list[str] | None = None
    simultaneous: bool = False
    discriminator: PlayerConfig = field(default_factory=PlayerConfig)
    generator: PlayerConfig = field(default_factory=PlayerConfig)
    players: dict[str, Any] = field(default_factory=dict)
    ema: EmaConfig = field(default_factory=EmaConfig)

    def by_name(self) -> dict[str, PlayerConfig]:
        """Settings of each player by name, in the usual order of moves."""
        return {"discriminator": self.discriminator, "generator": self.generator, **self.players}

    def place(self, player: str) -> str:
        """The key of a player's settings."""
        return f"schedule.players.{player}" if player in self.players else f"schedule.{player}"


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
    """How often the whole state is written, how many states are kept, and by which score the best generator is kept
    beside them: `auto` is the run's objective, None keeps none."""

    every: int = 40000
    keep: int = 2
    best: str | None = "auto"


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


def schema_kind(key: str) -> Kind | None:
    """What the value at a dotted key of the sections above may be; None for keys of components, or that aren't."""
    kind: Kind | None = Kind(objects=("Config",))
    for part in key.split("."):
        made = signature_of(f"{__name__}.{kind.objects[0]}") if kind is not None and kind.objects else None
        kind = None if made is None else made.kinds.get(part)
    return None if kind is None or kind.anything else kind


def section_keys(key: str) -> list[str]:
    """The keys of the section at a dotted key; of the root for an empty one."""
    kind = schema_kind(key) if key else Kind(objects=("Config",))
    made = signature_of(f"{__name__}.{kind.objects[0]}") if kind is not None and kind.objects else None
    return [] if made is None else list(made.kinds)


def typed(config: DictConfig) -> Config:
    """The root configuration as dataclasses, components left as they are; UserError for contradictory values."""
    for place, value in floats(OmegaConf.to_container(config)):
        if not math.isfinite(value):
            raise UserError(f"{place}={value}: must be a finite number")
    config = OmegaConf.merge(OmegaConf.structured(Config), config)  # type: ignore[assignment]
    result = Config(**{name: config[name] for name in COMPONENTS})
    for name in SECTIONS:
        setattr(result, name, OmegaConf.to_object(config[name]))
    for name, node in (config.schedule.players or {}).items():
        try:
            player = OmegaConf.merge(OmegaConf.structured(PlayerConfig), node)
        except OmegaConfBaseException as error:
            raise UserError(f"schedule.players.{name}: {str(error).splitlines()[0]}") from error
        result.schedule.players[name] = OmegaConf.to_object(player)
    _check(result)
    return result


def floats(value: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Every float below a mapping or list, with its dotted place."""
    if isinstance(value, float):
        yield where, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from floats(child, f"{where}.{key}" if where else str(key))


def check_ranges(section: Any, where: str) -> None:
    """UserError for a number of a section, or of one in it, that is out of its range."""
    for item in fields(section):
        value, place = getattr(section, item.name), f"{where}.{item.name}"
        if is_dataclass(value):
            check_ranges(value, place)
        else:
            within_range(value, item.name, place, "int" in str(item.type))


def _check(config: Config) -> None:
    schedule, runtime = config.schedule, config.runtime
    if (schedule.images is None) == (schedule.steps is None):
        raise UserError(
            f"schedule.images={schedule.images} and schedule.steps={schedule.steps}: set one of them, "
            "the other to null (steps counts turns of all players)"
        )
    for section in SECTIONS:
        check_ranges(getattr(config, section), section)
    if runtime.threads is not None and runtime.threads > MOST_THREADS:
        raise UserError(
            f"runtime.threads={runtime.threads}: must be at most {MOST_THREADS}; there are {os.cpu_count()} cores here"
        )
    for name, player in schedule.by_name().items():
        if player.lazy not in ("joined", "separate"):
            raise UserError(f"{schedule.place(name)}.lazy={player.lazy}: use joined or separate (updates of their own)")
    if runtime.penalties not in ("float32", "reduced"):
        raise UserError(f"runtime.penalties={runtime.penalties}: use float32 or reduced (the networks' precision)")

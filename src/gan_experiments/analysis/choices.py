"""What a finished thing is to be scored by: choices of the command line over a run's configuration, or the default."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_experiments.composition import options
from gan_experiments.config import composed, conf_dir, plain, put_value
from gan_experiments.errors import UserError
from gan_experiments.locations import moved
from gan_experiments.schema import Config, typed
from gan_experiments.truncation import TruncationChoice


@final
@dataclass(frozen=True)
class Choice:
    """How to score; None keeps what the run had, or the default for stored images.

    `reference` are real images to compare with, a share `held_out` of which gives floors, or `dataset` an option of
    that group; `split` is the part that samples are compared with. `checkpoints` names states of a run, `raw` its live
    weights, `best` those that scored best in training, `truncation` what is done to its samples, `statistics` which
    ones batch norms use. `size` resizes folders of images, `labels` says whether their classes are used.
    """

    metrics: Sequence[str] | None = None
    extractors: Sequence[str] | None = None
    dataset: str | None = None
    overrides: Sequence[str] = ()
    samples: int | None = None
    seed: int | None = None
    draws: int | None = None
    split: str = "train"
    statistics: str | None = None
    truncation: TruncationChoice = TruncationChoice()
    reference: Path | None = None
    held_out: float = 0.1
    size: int | None = None
    labels: bool = True
    raw: bool = False
    best: bool = False
    checkpoints: str | None = None

    def __post_init__(self) -> None:
        """UserError for numbers out of range, and for two references."""
        for name, value in (("samples", self.samples), ("draws", self.draws), ("size", self.size)):
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: must be 1 or more")
        if self.reference is not None and self.dataset is not None:
            raise UserError("--reference and --dataset both say what to compare with; give one")
        if not 0 <= self.held_out < 1:
            raise UserError(f"--held-out {self.held_out:g}: expected a share from 0 to below 1")
        if self.best and (self.raw or self.checkpoints is not None):
            raise UserError("--best, --raw and --checkpoints each name weights of a run; give one")
        if self.split == "held_out" and not self.floors:
            raise UserError("--split held_out needs held-out images; give a share, such as --held-out 0.1")

    @property
    def floors(self) -> bool:
        """Whether any real images are kept for floors."""
        return self.reference is None or self.held_out > 0

    def settings(self, base: Mapping[str, Any] | None) -> Config:
        """A run's configuration, or the default one, with what is chosen; UserError for names and keys that aren't."""
        groups = {"metric": self.metrics, "extractor": self.extractors}
        groups["dataset"] = None if self.dataset is None else [self.dataset]
        chosen = {group: list(names) for group, names in groups.items() if names is not None}
        for group, names in chosen.items():
            there = options([Path(conf_dir())], group)
            if strange := [name for name in names if name not in there]:
                raise UserError(f"no {group} called {strange[0]}; there is {', '.join(there)}")
        if base is None:
            config = copy.deepcopy(composed(*spelled(chosen)))
        else:
            config = OmegaConf.create(self.moved(base))
            fresh = composed(*spelled(chosen)) if chosen else config
            for group in chosen:
                config[group] = OmegaConf.create({group: fresh[group]})[group]  # its ${run.data} is now the run's
        self.put(config)
        return typed(config)

    def moved(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """A run's configuration with the places below its run.data where an override has that now."""
        places = [value for key, _, value in (item.partition("=") for item in self.overrides) if key == "run.data"]
        return moved(base, base["run"]["data"], places[-1]) if places else dict(base)

    def put(self, config: DictConfig) -> None:
        """Set single values; UserError for a key that the configuration lacks, or for one left open."""
        numbers: dict[str, Any] = {"run.objective": None, "run.seed": self.seed, "evaluation.samples": self.samples}
        numbers |= {"evaluation.draws": self.draws, "evaluation.statistics": self.statistics}
        for key, value in numbers.items():
            if value is not None or key == "run.objective":
                OmegaConf.update(config, key, value, force_add=True)
        for override in self.overrides:
            key, equals, _ = override.partition("=")
            above, _, last = key.rpartition(".")
            parent = OmegaConf.select(config, above) if above else config
            if not equals or not isinstance(parent, DictConfig) or last not in parent.keys():  # noqa: SIM118 (??? too)
                raise UserError(f"{override}: no such key; expected key=value, such as dataset.path=FOLDER")
            put_value(config, override)
        try:
            plain(config)
        except OmegaConfBaseException as error:
            raise UserError(" ".join(str(error).split())) from error


def spelled(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Options of groups as the command line has them."""
    return [f"{group}={names[0] if group == 'dataset' else '[' + ','.join(names) + ']'}"
            for group, names in groups.items()]  # fmt: skip

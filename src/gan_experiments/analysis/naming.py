"""Short names for configurations that differ: by what differs, and by the names of options where they can be told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, final

from omegaconf import DictConfig, OmegaConf

from gan_experiments.config import conf_dir
from gan_experiments.rundir import FREE_KEYS

NAMED_GROUPS = ("trick", "conditioning", "regularizer", "extractor")
"""Groups of several options, which keep their names in the configuration."""

SINGLE_GROUPS = ("loss", "model", "dataset", "schedule")
"""Groups of one option, whose name isn't kept, but can be found again in the options' files."""

ABSENT = "(absent)"
TARGET = "_target_"
FEW = 3
"""Where no class differs, an option is named only for at least this many differing keys; fewer are shown themselves."""

Config = Mapping[str, Any]


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts by dotted key; lists and empty dicts are leaves."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return leaves


def setting(config: Config) -> dict[str, Any]:
    """The leaves that make a run what it is: all but the seed, its place and its dashboard."""
    free = ("run.seed", *FREE_KEYS)
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in free and not key.startswith(tuple(f"{name}." for name in free))
    }


def differing_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys, in their order, that don't have the same value everywhere."""
    keys = dict.fromkeys(key for leaves in settings for key in leaves)
    return [key for key in keys if len({json.dumps(leaves.get(key, ABSENT)) for leaves in settings}) > 1]


def label(configs: Sequence[Config]) -> list[str]:
    """A name for each configuration; names tell apart what differs, and say no more than that takes.

    Tricks, the loss and other options come first, then single keys as `key=value`. `all` stands for a lone setting.
    """
    return Labels(configs).names()


@final
class Labels:
    """Descriptions of several configurations, from the most telling ones on."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self.configs = configs
        self.settings = [setting(config) for config in configs]
        self.differing = differing_keys(self.settings)

    def names(self) -> list[str]:
        """Each configuration's descriptions, of which each is used only among those that look alike without it."""
        parts: list[list[str]] = [[] for _ in self.configs]
        for texts in self.descriptions():
            alike: dict[tuple[str, ...], list[int]] = {}
            for place, part in enumerate(parts):
                alike.setdefault(tuple(part), []).append(place)
            for places in alike.values():
                if len({texts[place] for place in places}) > 1:
                    for place in places:
                        parts[place].append(texts[place])
        return [", ".join(part) or "all" for part in parts]

    def descriptions(self) -> Iterator[list[str]]:
        """Texts for all configurations, the most telling kind first."""
        for group in NAMED_GROUPS:
            yield ["+".join(map(str, config.get(group) or {})) or "none" for config in self.configs]
        for group in SINGLE_GROUPS:
            found = [self.option(group, leaves) for leaves in self.settings]
            options = [option for option in found if option is not None]
            if len(options) == len(found):
                yield options
        for key in self.differing:
            name = self.short(key)
            yield [f"{name}={describe(lookup(config, key))}" for config in self.configs]

    def option(self, group: str, leaves: Mapping[str, Any]) -> str | None:
        """The option of a group that these leaves come from, as far as the differing ones tell; None if none fits."""
        keys = [key for key in self.differing if key.startswith(f"{group}.")]
        classes = [key for key in keys if key.endswith(TARGET)]
        if not classes and len(keys) < FEW:
            return None
        best: tuple[int, str] | None = None
        for name, option in options_of(group).items():
            equal = {key for key in keys if leaves.get(key, ABSENT) == option.get(key, ABSENT)}
            if equal >= set(classes or keys) and (best is None or len(equal) > best[0]):
                best = (len(equal), name)
        return None if best is None else best[1]

    def short(self, key: str) -> str:
        """The end of a key, at least two words, that no other differing key shares; a class goes by its node's key."""
        whole = key.removesuffix(f".{TARGET}")
        words, others = whole.split("."), {other.removesuffix(f".{TARGET}") for other in self.differing} - {whole}
        ends = (".".join(words[-count:]) for count in range(2, len(words)))
        return next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), whole)


def lookup(config: Config, key: str) -> Any:
    """The value at a dotted key, which may be a node; ABSENT where there is none."""
    value: Any = config
    for word in key.split("."):
        if not isinstance(value, Mapping) or word not in value:
            return ABSENT
        value = value[word]
    return value


def describe(value: Any) -> str:
    """A value in few letters: a node by its class, a class without its module, a number with at most six digits."""
    if isinstance(value, Mapping):
        return describe(value[TARGET]) if TARGET in value else json.dumps(value)
    if isinstance(value, str):
        return value.rsplit(".", 1)[-1] if value.replace(".", "").replace("_", "").isalnum() else value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, separators=(",", ":"))


@cache
def options_of(group: str) -> dict[str, dict[str, Any]]:
    """The leaves of each option of a group as its file gives them, by name, with keys as in a whole configuration."""
    folder = Path(conf_dir()) / group
    return {path.stem: flatten({group: load_option(folder, path.stem)}) for path in sorted(folder.glob("*.yaml"))}


def load_option(folder: Path, name: str) -> Config:
    """An option's file laid over the options that it is based on; interpolations stay as they are written."""
    content = OmegaConf.load(folder / f"{name}.yaml")
    assert isinstance(content, DictConfig)
    bases = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    merged = OmegaConf.merge(*(load_option(folder, base) for base in bases), content)
    return OmegaConf.to_container(merged, resolve=False)  # type: ignore[return-value]

"""Finds what YAML files set that can't be, before torch is imported: misspelt keys, tricks that contradict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from gan_experiments.errors import UserError
from gan_experiments.schema import COMPONENTS

SEVERAL = ("regularizer", "conditioning", "trick", "metric", "extractor")
"""Groups from which a list may be chosen."""


def check_composition(config: DictConfig, hydra: Any) -> None:
    """Raise UserError in one line for an experiment's misspelt key, or for tricks that don't go with the choices.

    What an experiment sets of options that the command line has left out (experiment=grid regularizer=none) is removed.
    """
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    choices = hydra.runtime.choices
    if choices.get("experiment") is not None:
        leave_out(config, folders, list(hydra.overrides.task))
    check_experiment(config, folders, choices)
    check_tricks(config, folders, choices)


def leave_out(config: DictConfig, folders: list[Path], overrides: list[str]) -> None:
    """Remove what is set of options that the command line has left out, choosing others, and doesn't set itself."""
    for group in SEVERAL:
        node = config.get(group)
        if not isinstance(node, DictConfig) or not any(override.startswith(f"{group}=") for override in overrides):
            continue
        known = group_option(folders, group, options(folders, group))
        for key in list(node):
            own = any(override.lstrip("+").startswith(f"{group}.{key}.") for override in overrides)
            if key in known and isinstance(node[key], DictConfig) and "_target_" not in node[key] and not own:
                with open_dict(node):
                    del node[key]


def check_experiment(config: DictConfig, folders: list[Path], choices: Mapping[str, Any]) -> None:
    """Raise UserError naming the key when an experiment file sets what its component's own YAML doesn't list.

    The root keys are typed, so Hydra itself refuses those; a component's YAML lists all arguments of its class.
    """
    experiment = choices.get("experiment")
    if experiment is None:
        return
    for group in COMPONENTS:
        node = config.get(group)
        if isinstance(node, DictConfig):
            choice = choices.get(group)
            known = group_option(folders, group, [choice] if choice else list(map(str, node)))
            for key, siblings in unknown_keys(OmegaConf.to_container(node), known, group):
                raise UserError(
                    f"experiment={experiment}: {key} is not an option; there is {', '.join(siblings) or 'none'}"
                )


def check_tricks(config: DictConfig, folders: list[Path], choices: Mapping[str, Any]) -> None:
    """Raise UserError when two tricks or conditionings set a key to different values, or one sets what the chosen
    component lacks."""
    seen: dict[str, tuple[str, Any]] = {}
    for kind in ("conditioning", "trick"):
        for option in map(str, config.get(kind) or {}):
            what, changes = f"{kind} {option}", read_option(folders, kind, option) or {}
            for group in (name for name in COMPONENTS if name in changes and name not in SEVERAL):
                check_keys(what, group, changes[group], folders, choices)
            for key, value in leaves({name: value for name, value in changes.items() if name not in SEVERAL}):
                if key in seen and seen[key][1] != value:
                    before, other = seen[key]
                    raise UserError(f"{before} and {what} contradict: {key} is {other} or {value}; choose one")
                seen[key] = (what, value)


def check_keys(what: str, group: str, values: Any, folders: list[Path], choices: Mapping[str, Any]) -> None:
    """Raise UserError when `what` sets a key that the chosen option of the group lacks."""
    known = group_option(folders, group, [choices.get(group) or ""])
    for key, siblings in unknown_keys(values, known, group):
        fitting = [name for name in options(folders, group) if has_key(folders, group, name, key)]
        raise UserError(
            f"{what} sets {key}, which {group}={choices.get(group)} does not have (it has "
            f"{', '.join(siblings) or 'no keys'}); {group}={', '.join(fitting)} would fit"
        )


def leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a mapping, with its dotted place."""
    if not isinstance(value, Mapping):
        yield where, value
        return
    for key, child in value.items():
        yield from leaves(child, f"{where}.{key}" if where else str(key))


def options(folders: list[Path], group: str) -> list[str]:
    """The options of a group, from all folders."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def has_key(folders: list[Path], group: str, option: str, key: str) -> bool:
    """Whether the option's YAML lists the dotted `key`, which begins with the group."""
    return key in dict(leaves(group_option(folders, group, [option]), group))


def read_option(folders: list[Path], group: str, option: str) -> dict[str, Any] | None:
    """An option's YAML as keys of the root, whatever package it is for; the first folder that has it wins."""
    path = next((folder / group / f"{option}.yaml" for folder in folders
                 if (folder / group / f"{option}.yaml").is_file()), None)  # fmt: skip
    if path is None:
        return None
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) or {}
    if path.read_text(encoding="utf-8").lstrip().startswith("# @package _global_"):
        content.pop("defaults", None)
        return dict(content)
    return {group: content}


def group_option(folders: list[Path], group: str, choices: list[str]) -> dict[str, Any]:
    """The chosen options' YAML as written, later options over earlier ones."""
    merged: dict[str, Any] = {}
    for choice in choices:
        content = dict((read_option(folders, group, choice) or {}).get(group) or {})
        defaults = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
        merged = {**merged, **group_option(folders, group, defaults), **content}
    return merged


def unknown_keys(value: Any, known: Any, where: str) -> Iterator[tuple[str, list[str]]]:
    """Each key of `value` that `known` lacks, with the keys it has; nodes of another `_target_` are passed over."""
    if not isinstance(value, Mapping) or not isinstance(known, Mapping):
        return
    if value.get("_target_", known.get("_target_")) != known.get("_target_"):
        return
    for key, child in value.items():
        if key not in known:
            if isinstance(child, Mapping) and "_target_" in child:
                continue  # a whole new component, written out in the experiment
            yield f"{where}.{key}", [str(name) for name in known if not str(name).startswith("_")]
        else:
            yield from unknown_keys(child, known[key], f"{where}.{key}")

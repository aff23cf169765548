"""Finds what YAML files set that can't be, before torch is imported: misspelt keys, tricks that contradict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from gan_experiments.errors import UserError
from gan_experiments.schema import COMPONENTS, schema_kind

SEVERAL = ("regularizer", "conditioning", "trick", "metric", "extractor")
"""Groups from which a list may be chosen."""


def check_composition(config: DictConfig, hydra: Any) -> None:
    """Raise UserError in one line for an experiment's misspelt key, or for tricks that don't go with the choices.

    What an experiment sets of options that the command line has left out (experiment=grid regularizer=none) is removed.
    """
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    choices, lines = hydra.runtime.choices, OmegaConf.to_container(hydra.overrides.task)  # ${...} in them stays
    for group in group_names(folders):
        if group not in (*SEVERAL, "experiment", "local") and group not in choices and config.get(group) is not None:
            raise UserError(f"{group}: a file chooses a list of options, but one is meant: override /{group}: NAME")
    if choices.get("experiment") is not None:
        leave_out(config, folders, cast(list[str], lines))
    check_experiment(config, folders, choices, cast(list[str], lines))
    check_texts(folders, choices)
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


def check_experiment(config: DictConfig, folders: list[Path], choices: Mapping[str, Any], overrides: list[str]) -> None:
    """Raise UserError naming the key when an experiment file sets what its component's own YAML doesn't list, or what
    another component lacks that the command line has chosen.

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
                meant = None if group in SEVERAL else made_for(folders, str(experiment), group)
                if meant not in (None, choice) and f"{group}={choice}" in overrides:
                    raise UserError(
                        f"experiment={experiment} is made for {group}={meant} and sets {key}, which {group}={choice} "
                        f"lacks; leave out {group}={choice}, or the experiment"
                    )
                raise UserError(
                    f"experiment={experiment}: {key} is not an option; there is {', '.join(siblings) or 'none'}"
                )


def made_for(folders: list[Path], experiment: str, group: str) -> str | None:
    """The option of a group that an experiment chooses, itself or by one it is based on; None for none."""
    path = file_of_option(folders, "experiment", experiment)
    content: Any = None if path is None else OmegaConf.to_container(OmegaConf.load(path))
    for entry in reversed((content or {}).get("defaults") or []):
        if isinstance(entry, dict) and f"override /{group}" in entry:
            return str(entry[f"override /{group}"])
        if isinstance(entry, str) and entry not in ("_self_", experiment):
            found = made_for(folders, entry, group)
            if found is not None:
                return found
    return None


def check_texts(folders: list[Path], choices: Mapping[str, Any]) -> None:
    """Raise UserError for a number in a file where a section of the root has text: YAML reads 2024_11_28 as one."""
    for group, choice in choices.items():
        chosen = str(choice) if group in ("experiment", "local") or group not in COMPONENTS else ""
        path = file_of_option(folders, group, chosen)
        if path is None or group.startswith("hydra"):
            continue
        content: Any = OmegaConf.to_container(OmegaConf.load(path)) or {}
        at_root = path.read_text(encoding="utf-8").lstrip().startswith("# @package _global_")
        for key, value in leaves(content if at_root else {group: content}):
            kind = schema_kind(key)
            if kind is not None and kind.text and value is not None and not isinstance(value, str):
                raise UserError(
                    f"{group}={choice}: {key}={value}: must be {kind}, but {path.name} has it as a number or the like; "
                    f'put it in quotes there: "..."'
                )


def file_of_option(folders: list[Path], group: str, option: str) -> Path | None:
    """The YAML file of an option; the first folder that has it wins."""
    paths = (folder / group / f"{option}.yaml" for folder in folders)
    return next((path for path in paths if path.is_file()), None)


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


def group_names(folders: list[Path]) -> list[str]:
    """The groups, from all folders."""
    return sorted({path.parent.name for folder in folders for path in folder.glob("*/*.yaml")})


def options(folders: list[Path], group: str) -> list[str]:
    """The options of a group, from all folders."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def has_key(folders: list[Path], group: str, option: str, key: str) -> bool:
    """Whether the option's YAML lists the dotted `key`, which begins with the group."""
    return key in dict(leaves(group_option(folders, group, [option]), group))


def read_option(folders: list[Path], group: str, option: str) -> dict[str, Any] | None:
    """An option's YAML as keys of the root, whatever package it is for; the first folder that has it wins."""
    path = file_of_option(folders, group, option)
    if path is None:
        return None
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) or {}
    if not isinstance(content, dict):
        raise UserError(f"{group}={option}: {path.name} holds a list; must hold key: value")
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

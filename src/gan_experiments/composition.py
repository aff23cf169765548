"""Finds misspelt keys that an experiment file adds to a component, before torch is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_experiments.config import COMPONENTS
from gan_experiments.errors import UserError


def check_experiment(config: DictConfig, hydra: Any) -> None:
    """Raise UserError naming the key when an experiment file sets what its component's own YAML doesn't list.

    The root keys are typed, so Hydra itself refuses those; a component's YAML lists all arguments of its class.
    """
    experiment = hydra.runtime.choices.get("experiment")
    if experiment is None:
        return
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    for group in COMPONENTS:
        node = config.get(group)
        if isinstance(node, DictConfig):
            choice = hydra.runtime.choices.get(group)
            known = group_option(folders, group, [choice] if choice else list(map(str, node)))
            for key, siblings in unknown_keys(OmegaConf.to_container(node), known, group):
                raise UserError(
                    f"experiment={experiment}: {key} is not an option; there is {', '.join(siblings) or 'none'}"
                )


def group_option(folders: list[Path], group: str, choices: list[str]) -> dict[str, Any]:
    """The chosen options' YAML as written, later options over earlier ones, the first folder that has a file wins."""
    merged: dict[str, Any] = {}
    for choice in choices:
        found = next((folder / group / f"{choice}.yaml" for folder in folders
                      if (folder / group / f"{choice}.yaml").is_file()), None)  # fmt: skip
        if found is None:
            continue
        content: Any = OmegaConf.to_container(OmegaConf.load(found)) or {}
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

"""Composed configurations, and build(): the only place that makes objects from YAML."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from gan_experiments.errors import UserError
from gan_experiments.schema import Config

HERE = Path(__file__).resolve().parent


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


def build(node: Any, where: str, *arguments: Any, **given: Any) -> Any:
    """The object a configuration node describes, its constructor given `arguments` first; `where` names the node.

    Raises UserError naming the node when it has no `_target_` or its constructor refuses the values.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{where}: expected an option of this group (a node with _target_), got {_short(node)}")
    node = checked(node if isinstance(node, DictConfig) else OmegaConf.create(dict(node)), where)
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


def checked(node: DictConfig, where: str) -> DictConfig:
    """A node and those below it, with 2.0 as 2 where a constructor takes whole numbers only; UserError naming the place
    of values that are no number where it takes numbers only, or not whole there."""
    node = copy.deepcopy(node)
    OmegaConf.set_readonly(node, False)
    kinds = {} if OmegaConf.is_missing(node, "_target_") else types_of(str(node.get("_target_")))
    keys: list[Any] = [key for key in node if not OmegaConf.is_missing(node, key)]
    for key in keys:
        value, place = node[key], f"{where}.{key}"
        if isinstance(value, DictConfig):
            node[key] = checked(value, place)
        elif isinstance(value, bool | int | float | str):
            node[key] = checked_value(value, kinds.get(key, frozenset()), place)
    return node


def checked_value(value: Any, kinds: frozenset[Any], place: str) -> Any:
    """The value as one of `kinds`, the types that are asked for; none named: any."""
    if type(value) in kinds or not kinds or not kinds <= {int, float, NoneType}:
        return value
    if isinstance(value, bool | str):
        raise UserError(f"{place}={value}: must be a number")
    if float not in kinds and not value.is_integer():
        raise UserError(f"{place}={value}: must be a whole number")
    return value if float in kinds else int(value)


@functools.cache
def types_of(target: str) -> Mapping[Any, frozenset[Any]]:
    """The types that each argument of the class or function called `target` may have, so far as it says so."""
    try:
        made: Any = locate(target)
        hints = get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    except (ErrorDuringImport, TypeError, NameError):  # names imported for type checking only have no value
        return {}
    alternatives = (Union, UnionType)
    return {
        name: frozenset(get_args(hint)) if get_origin(hint) in alternatives else frozenset({hint})
        for name, hint in hints.items()
    }


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

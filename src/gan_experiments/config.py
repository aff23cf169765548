"""Composed configurations, and build(): the only place that makes objects from YAML."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from gan_experiments.complaints import complaint, composing
from gan_experiments.composition import SEVERAL, group_names, leaves, options
from gan_experiments.errors import UserError
from gan_experiments.faults import no_target, own_fault
from gan_experiments.kinds import ANYTHING, Kind
from gan_experiments.overrides import check, check_form
from gan_experiments.quoting import Groups, Override, as_typed, pieces, quote, rewritten, unquoted
from gan_experiments.ranges import within_range
from gan_experiments.schema import COMPONENTS, SECTIONS, Config, schema_kind, section_keys
from gan_experiments.signatures import signature_of
from gan_experiments.values import NUMBER, checked, checked_value, near

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
    """The default configuration with these overrides, texts as they are given; UserError in one line when it doesn't
    compose."""
    lines = for_hydra(list(overrides), [Path(conf_dir())], sweep=False)
    given = [] if any(line.startswith("run.dir=") for line in lines) else ["run.dir=unused"]
    try:
        return composed_as_given(*given, *lines)
    except Exception as error:
        if not composing(error):
            raise
        raise complaint(error, lines, [Path(conf_dir())]) from error


def composed_as_given(*overrides: str) -> DictConfig:
    """What Hydra composes; its own errors for what it can't."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=conf_dir(), version_base="1.3"):
        return compose("config", list(overrides))


def for_hydra(overrides: list[str], folders: list[Path], sweep: bool) -> list[str]:
    """The overrides, checked, with texts that look like numbers in quotes; our folder of `folders` comes first."""
    groups = Groups({group: options(folders, group) for group in group_names(folders)}, SEVERAL)
    check(overrides, groups, sweep)
    for override in map(Override.parse, overrides):
        refuse_no_key(override.key, sorted({*section_keys(""), *groups.options, "hydra"}))

    @functools.cache
    def base() -> DictConfig | None:
        """What the choices alone compose to, where they do."""
        try:
            return composed_as_given(*chosen_first(overrides, groups, folders))
        except Exception:  # whatever it is, Hydra will say it of the whole
            return None

    return rewritten(overrides, groups, lambda key: kind_at(key, base), sweep)


def refuse_no_key(key: str, roots: list[str]) -> None:
    """UserError for a key that the root or its sections lack, which Hydra would add where `+` is before it."""
    above, _, name = key.rpartition(".")
    first = re.split(r"[./]", key)[0]
    if first not in roots:
        raise UserError(f"{key}: there is no group or section {first}{near(first, roots)}")
    known = section_keys(above) if key.partition(".")[0] in SECTIONS else []
    if known and name not in known:
        raise UserError(f"{key}: no such key{near(name, known, above)}")


def known_keys(overrides: list[str], folders: list[Path]) -> list[str]:
    """All dotted keys of the configuration that the choices among the overrides compose to, none if they don't."""
    groups = Groups({group: options(folders, group) for group in group_names(folders)}, SEVERAL)
    try:
        config = composed_as_given(*chosen_first(overrides, groups, folders))
    except Exception:  # the error that is told already
        return []
    return [key for key, _ in leaves(OmegaConf.to_container(config))]


def chosen_first(overrides: list[str], groups: Groups, folders: list[Path]) -> list[str]:
    """What Hydra needs to compose the choices among the overrides, of a sweep's the first."""
    search = [f"hydra.searchpath=[{','.join(quote(f'file://{folder.resolve()}') for folder in folders[1:])}]"]
    chosen = [line.partition("=") for line in overrides if decides(line, groups) and "=" in line]
    return [*(search if folders[1:] else []), *(f"{key}={pieces(value)[0]}" for key, _, value in chosen),
            "run.dir=unused"]  # fmt: skip


def check_nodes(config: DictConfig, settings: Config) -> None:
    """UserError for what a constructor wouldn't take, found before anything is imported."""
    for name in COMPONENTS:
        if isinstance(config.get(name), DictConfig):
            checked(config[name], name)
    schedule = settings.schedule
    for name, tempo in schedule.by_name().items():
        where = schedule.place(name)
        if isinstance(tempo.optimizer, Mapping):
            checked(OmegaConf.create(dict(tempo.optimizer)), f"{where}.optimizer", curves=True)
        check_number(tempo.adversarial, f"{where}.adversarial")
    check_number(schedule.ema.half_life, "schedule.ema.half_life")


def check_number(value: Any, where: str) -> None:
    """UserError unless the value is a number, 0 or more, or a node for a curve."""
    within_range(checked_value(value, NUMBER, where), where.rpartition(".")[2], where, whole=False)


def put_value(config: DictConfig, line: str) -> None:
    """Set what `key=value` says, a text as it is typed; UserError for what it can't be."""
    check_form([line])
    override = Override.parse(line)
    kind = kind_at(override.key, lambda: config)
    typed = as_typed(override, kind, sweep=False)
    if kind.text and typed != f"{override.key}=null":
        OmegaConf.update(config, override.key, unquoted(str(override.value)))
    else:
        config.merge_with_dotlist([typed])


def decides(line: str, groups: Groups) -> bool:
    """Whether an override chooses an option or a class, and so decides what other keys take."""
    key = Override.parse(line).key
    return key in groups.options or key.endswith("._target_")


def kind_at(key: str, base: Callable[[], DictConfig | None]) -> Kind:
    """What the configuration's value at a dotted key may be, so far as it is known."""
    kind = schema_kind(key)
    config = base() if kind is None and key.partition(".")[0] in COMPONENTS else None
    if config is None:
        return kind or ANYTHING
    above, _, name = key.rpartition(".")
    node = OmegaConf.select(config, above, throw_on_missing=False) if above else None
    taken = signature_of(str(node.get("_target_"))) if isinstance(node, DictConfig) else None
    return ANYTHING if taken is None else taken.kinds.get(name, ANYTHING)


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
        raise _explain(error, where, str(node["_target_"])) from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except TypeError as error:
        raise own_fault(error, where) or UserError(f"{where}: {error}") from error


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
    node = checked(node if isinstance(node, DictConfig) else OmegaConf.create(dict(node)), where, curves=True)
    try:
        target = get_method(node["_target_"])
    except (ImportError, ValueError) as error:
        raise no_target(where, str(node["_target_"]), error) from error
    return target, {str(key): _setting(node, key, where) for key in node if key != "_target_"}


def build_number(node: Any, where: str) -> Any:
    """A number as it is, or the curve that a node describes."""
    check_number(node, where)
    return build(node, where) if isinstance(node, Mapping) else node


def _setting(node: Any, key: Any, where: str) -> Any:
    value = node[key]
    if isinstance(value, Mapping):
        return build(value, f"{where}.{key}")
    if isinstance(value, list | ListConfig):
        return [_setting(value, index, f"{where}.{key}") for index in range(len(value))]
    return value


def _explain(error: BaseException, where: str, target: str) -> UserError:
    """The user's own mistake when one lies beneath, else the innermost cause, said with its place."""
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return UserError(f"{where}: {cause}")
    place = re.search(r"full_key: (\S+)", str(error))
    there = f"{where}{' (' + place[1] + ')' if place and place[1] != where else ''}"
    if re.match(r"Error (locating|loading|getting) |Expected a callable", str(error)):
        there = place[1] if place else where
        named = re.search(r"target '([^']+)'", str(error))
        return no_target(there, named[1] if named else target, error)
    text = re.sub(r"\s+", " ", str(cause if cause is not error else error)).partition(" full_key:")[0].strip()
    lacking = re.match(r"(\w+)\.__init__\(\) missing .*: (.*)", text)
    if lacking:
        first = lacking[2].split("'")[1]
        text = f"{lacking[1]} needs {lacking[2]}: give {where}.{first}, unless the class is for another group"
    return own_fault(error, there) or UserError(f"{there}: {text}")


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

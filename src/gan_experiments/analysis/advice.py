"""What helps a run, in words of its own configuration: only keys that it has, and only what isn't set already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from gan_experiments.config import compose_option, conf_dir


@final
@dataclass(frozen=True)
class Plan:
    """What advice must know of a run: its configuration, by player the key of its rate with the value, for the players
    that there are, whether its data are images, and whether D is free: nothing limits a slope that it gains by."""

    config: Mapping[str, Any] = field(default_factory=dict)
    levers: Mapping[str, str] = field(default_factory=dict)
    images: bool = True
    free: bool = False

    def get(self, key: str) -> Any:
        """The value at a dotted key; None where there is none."""
        node: Any = self.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    def options(self, group: str, *names: str) -> str | None:
        """`group=[...]` with those chosen so far and these; None when all of them are chosen."""
        chosen = [str(name) for name in self.config.get(group) or {}]
        missing = [name for name in names if name not in chosen]
        kept = [name for name in chosen if (Path(conf_dir()) / group / f"{name}.yaml").is_file()]
        return f"{group}=[{','.join([*kept, *missing])}]" if missing else None

    def option(self, group: str, name: str) -> str | None:
        """`group=name`; None when that is chosen."""
        wanted, present = compose_option(group, name, ""), self.config.get(group) or {}
        return None if present.get("_target_") == wanted.get("_target_") else f"{group}={name}"

    def trick(self, name: str, images: bool = False) -> str | None:
        """The trick beside those chosen; with `images` only for data that are."""
        return None if images and not self.images else self.options("trick", name)

    def times(self, key: str, factor: float) -> str | None:
        """The key with its number, a whole one as such, times `factor`."""
        value = self.get(key)
        if not isinstance(value, int | float) or value <= 0:
            return None
        number = value * factor
        return f"{key}={int(number) if isinstance(value, int) else format(number, 'g').replace('e+', 'e')}"

    def turned_on(self, key: str) -> str | None:
        """The key, set to true where it is false."""
        return f"{key}=true" if self.get(key) is False else None

    def factor(self, player: str, factor: float) -> str | None:
        """The player's rate times `factor`."""
        return self.times(f"schedule.{player}.lr_factor", factor) if player in self.levers else None

    def moves(self, player: str) -> str | None:
        """One more move for the player, where there is another one."""
        moves = self.get(f"schedule.{player}.moves")
        return f"schedule.{player}.moves={moves + 1}" if isinstance(moves, int) and len(self.levers) > 1 else None

    def longer(self) -> str | None:
        """Twice the length of the run."""
        return self.times("schedule.images", 2) or self.times("schedule.steps", 2)

    def lower(self, *players: str) -> str:
        """The rates of these players, or of all, to be lowered."""
        return " and ".join(f"lower {lever}" for name, lever in self.levers.items() if name in players or not players)


def either(*ways: str | None) -> str:
    """The ways that there are, as a list of alternatives."""
    there = [way for way in ways if way]
    return " or ".join([", ".join(there[:-1]), there[-1]] if len(there) > 1 else there)

"""Where a run came from: an entry for each time it was started or continued, in provenance.json."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import write_atomic

NAME = "provenance.json"
PACKAGES = (
    "gan-experiments", "torch", "torchvision", "torchmetrics", "numpy", "hydra-core", "omegaconf", "wandb", "timm",
)  # fmt: skip
CHECKOUT = Path(__file__).resolve().parents[3]
"""The folder of the checkout, if the package runs from one (src/ layout)."""
SECONDS = 10


def add_start(directory: Path, again: str, images: int, device: Mapping[str, str]) -> None:
    """Append how a run is started: at how many `images`, by which command, on which machine, code and versions.

    `again` is the command that continues it, `device` what the caller knows of the machine's accelerator. Nothing of
    the environment is kept. Raises UserError when the file holds something else, or can't be written.
    """
    starts = read_starts(directory)
    commit = commit_of(CHECKOUT)
    starts.append({
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": images,
        "command": sys.argv,
        "again": again,
        "folder": os.getcwd(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "system": platform.platform(),
        "commit": commit,
        "changed": None if commit is None else is_changed(CHECKOUT),
        "versions": {"python": platform.python_version(), **versions()},
        "device": dict(device),
    })  # fmt: skip
    write_atomic(directory / NAME, strict_json.dumps({"starts": starts}, indent=2) + "\n")


def read_starts(directory: Path) -> list[dict[str, Any]]:
    """A run's starts, oldest first; none where there is no file. Raises UserError where it holds something else."""
    path = directory / NAME
    try:
        content = strict_json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({error}); move it away, and a new one is begun") from error
    starts = content.get("starts") if isinstance(content, dict) else None
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        raise UserError(f"{path}: holds no list of starts; move it away, and a new one is begun")
    return starts


def versions() -> dict[str, str]:
    """The installed packages that a run's numbers may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # optional, or run from a checkout that isn't installed
            continue
    return found


def commit_of(checkout: Path) -> str | None:
    """The commit of the checkout that this package runs from; None where it is installed, or without git."""
    if not (checkout / "src" / "gan_experiments").is_dir() or not (checkout / ".git").exists():
        return None
    return git(checkout, "rev-parse", "HEAD")


def is_changed(checkout: Path) -> bool | None:
    """Whether code or configuration differ from the commit, new files included; None where git doesn't say."""
    said = git(checkout, "status", "--porcelain", "--", "src", "conf", "scripts", "pyproject.toml")
    return None if said is None else bool(said)


def git(checkout: Path, *arguments: str) -> str | None:
    """What git says in the checkout; None where it fails, or isn't there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's own repository
    command = ["git", "--no-optional-locks", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=kept, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()

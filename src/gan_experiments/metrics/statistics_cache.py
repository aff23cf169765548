"""What was computed from real data once, kept on disk under everything that it depends on."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torchmetrics import Metric

from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import remove_dead, write_atomic
from gan_experiments.metrics.base import Accumulator, AnyMetric, QualityMetric, Rows
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.weights_file import hash_state

log = logging.getLogger(__name__)


@final
class StatisticsCache:
    """Tensors in one safetensors file a set of facts: all that they depend on, hashed into the name and kept inside.

    A file that is broken, or that holds other facts than those asked for, is made anew, never used.
    """

    def __init__(self, folder: Path) -> None:
        """A cache in that folder, which is made when something is first kept."""
        self.folder, self.said = folder, False

    def path(self, facts: Mapping[str, Any]) -> Path:
        """The file for these facts, among which `kind` names what is kept."""
        return self.folder / f"{facts['kind']}-{hashlib.sha256(canonical(facts).encode()).hexdigest()[:24]}.safetensors"

    def load(self, facts: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The tensors kept under exactly these facts, or None."""
        path = self.path(facts)
        try:
            if not path.exists():
                return None
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("facts") != canonical(facts):
                    log.warning("%s holds other facts than its name says and is made anew", path)
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            if metadata.get("sha256") != hash_state(dict(sorted(tensors.items()))):
                log.warning("%s: damaged (its content doesn't match its SHA-256), and is made anew", path)
                return None
            return tensors
        except (SafetensorError, OSError, RuntimeError) as error:
            log.warning("%s is broken (%s) and is made anew", path, str(error).splitlines()[0])
            return None

    def save(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under these facts, in one move; where that can't be, it is said once, and nothing is kept."""
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_dead(self.folder)
            metadata = {"facts": canonical(facts), "sha256": hash_state(dict(sorted(plain.items())))}
            write_atomic(self.path(facts), save(plain, metadata=metadata))
        except (OSError, UserError) as error:
            cause = error.__cause__ if isinstance(error, UserError) else error
            reason = cause.strerror if isinstance(cause, OSError) else error
            if not self.said:
                what = "what follows from real data is computed anew each time"
                log.warning("evaluation.cache=%s: can't be written (%s); %s", self.folder, reason, what)
            self.said = True


def canonical(facts: Mapping[str, Any]) -> str:
    """Facts as JSON that is the same for the same facts."""
    return json.dumps(facts, sort_keys=True, allow_nan=False)


@functools.cache
def code_version() -> str:
    """SHA-256 (hex) of all source files of the metrics, with torch's version: other code, other statistics."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def extractor_facts(extractor: Extractor | None) -> dict[str, str]:
    """What identifies an extractor: only results of the same three facts compare."""
    if extractor is None:
        return {"extractor": "none", "extractor_sha256": "", "resize": "none"}
    return {"extractor": extractor.name, "extractor_sha256": extractor.sha256, "resize": extractor.resize}


def metric_facts(metric: AnyMetric) -> dict[str, Any]:
    """A metric's class with all its settings, and those of what it keeps."""
    return {"metric": identity(metric, QualityMetric), "keeps": identity(metric.real, Accumulator)}


def identity(module: Metric, base: type[object]) -> list[Any]:
    """A module's class, and the numbers, words and lists among its attributes but those of `base` and its states."""
    common = set(vars(Rows())) | set(vars(base)) | set(module._defaults)
    own = {
        name: value
        for name, value in sorted(vars(module).items())
        if name not in common and not name.startswith("_") and plain(value)
    }
    return [f"{type(module).__module__}.{type(module).__qualname__}", own]


def plain(value: object) -> bool:
    """Whether a value is a number, a word, None, or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return isinstance(value, bool | int | float | str | None)

"""Run directories written by hand: a configuration, a status and recorded scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_experiments.logging.records import Records
from gan_experiments.logging.status import State, Status

BASE: dict[str, Any] = {
    "run": {"dir": "x", "seed": 0, "data": "data"},
    "loss": {
        "_target_": "gan_experiments.objectives.adversarial.NonSaturating",
        "real_target": 1.0,
        "fake_target": 0.0,
    },
    "trick": {},
    "regularizer": {},
    "schedule": {"batch_size": 64, "discriminator": {"lr": 2e-4}, "generator": {"lr": 2e-4}},
    "metric": {"fid": {}},
}
FLOOR = 4.0


def config(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """The base configuration with whole groups exchanged."""
    return {**BASE, **changes, "run": {**BASE["run"], "seed": seed, "dir": f"somewhere/{seed}"}}


def record(value: float, higher: bool = False, **provenance: Any) -> dict[str, Any]:
    """A score as it is recorded."""
    facts = {"dataset": "d", "data_fingerprint": "f", "transform": "t", "extractor_sha256": "e", "resize": "none"}
    counts = {"n_real": 10, "n_fake": 10, "n_floor": 10}
    return {"value": value, "floor": FLOOR, "higher_is_better": higher, **facts, **counts, **provenance}


def put(
    path: Path,
    settings: dict[str, Any] | None,
    history: list[Mapping[str, Any]] | None = None,
    state: State = State.COMPLETED,
    reason: str = "",
    images: int = 1000,
) -> Path:
    """A run directory with these evaluations."""
    path.mkdir(parents=True)
    if settings is not None:
        (path / "config.json").write_text(json.dumps(settings))
    records = Records(path / "metrics.jsonl")
    for step, scores in enumerate(history or []):
        records.write("train", 100 * step, step, {"generator/adversarial": 1.0})
        records.write("scores", 100 * step, step, scores)
    records.close()
    Status(path / "status.json").update(state, reason=reason, images=images)
    return path


def fid(*values: float, **provenance: Any) -> list[Mapping[str, Any]]:
    return [{"fid": record(value, **provenance)} for value in values]

"""Taking up a run where its newest checkpoint left it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_experiments.errors import UserError
from gan_experiments.logging.logger import Logger
from gan_experiments.logging.records import read_records
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.observers.checkpointing import Checkpointing
from gan_experiments.observers.evaluation import check_extractors
from gan_experiments.rundir import RunDirectory
from gan_experiments.trainer import Trainer

log = logging.getLogger(__name__)


def resume(trainer: Trainer, home: RunDirectory, logger: Logger, evaluator: Evaluator) -> None:
    """Take up the newest checkpoint if there is one, once all is well with it, the data and the records.

    What was recorded after it goes when new records come. Raises UserError where something doesn't fit.
    """
    saved = home.checkpoints.load_latest()
    if saved is None:
        return
    checkpointing = trainer.observers[-1]
    assert isinstance(checkpointing, Checkpointing)
    checkpointing.check_origin(saved, trainer)
    records = list(read_records(home.records.path, stop=saved["records"]))
    scores = [record["values"] for record in records if record["kind"] == "scores"]
    for values in scores:
        check_extractors(values, evaluator)
    home.records.rewind(saved["records"], saved.get("records_sha256"))
    put(saved["state"], trainer, home.checkpoints.paths()[-1])
    home.settle()
    for values in scores:
        logger.remember(values)
    home.status.update(saved=saved["images"], scores=scores[-1] if scores else None)
    log.info("continuing %s from %s images", home.path, f"{trainer.images:,}")


def put(state: dict[str, Any], trainer: Trainer, path: Path) -> None:
    """Give the trainer the state that a checkpoint holds; UserError for one of other parts."""
    try:
        observers = {name: saved_state(state["observers"], name) for name, _ in trainer.named_observers()}
        trainer.load_state_dict(state | {"observers": observers})
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{path}: its state doesn't fit this run's parts ({reason:.200}); it was changed, or written by another "
            "version: put the former one back, or choose another run.dir"
        ) from error


def saved_state(observers: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What an observer, called by its place and type, left; one that runs of earlier versions lacked left nothing."""
    if name in observers:
        return dict(observers[name])
    kind = name.split()[-1]
    same = [state for other, state in observers.items() if other.split()[-1] == kind]
    return dict(same[0]) if len(same) == 1 else {}

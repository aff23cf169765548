"""Every key that a run logs is declared, with its meaning; the declarations tell kinds of names apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from gan_experiments.experiment import run
from gan_experiments.logging.keys import KEYS, Panel, declared, table
from gan_experiments.logging.logger import NoLogger
from recipes import given_data, small, stand_in
from tiny import TINY

SIDES = {"player": {"generator", "discriminator"}}
SHORT = (
    "logger=none", "schedule.steps=2", "schedule.images=null", "schedule.batch_size=8", "log.every=8",
    "samples.count=4", "run.objective=null", "extractor=none", "metric=none",
)  # fmt: skip
WIDTHS = ("model.generator.width=4", "model.discriminator.width=4")
RUNS: dict[str, tuple[str, ...]] = {
    "points": (*TINY, "regularizer=[r1,lecam]", "log.singular_values=2", "trick=[label_smoothing]"),
    "scores": (*TINY, "metric=[modes,fid]", "evaluation.raw=true"),
    "augmented": (*SHORT, *WIDTHS, "trick=ada", "regularizer=[none]"),
    "bottleneck": (*SHORT, *WIDTHS, "regularizer=variational_bottleneck"),
    "mismatched": (*SHORT, *WIDTHS, "conditioning=[one_hot,projection]", "trick=mismatched", "regularizer=[none]"),
    "codes": ("experiment=infogan", *SHORT),
    "grown": ("experiment=progan", *SHORT),
    "paths": (
        *SHORT, "model=stylegan2", "model.generator.channel_base=64", "model.discriminator.channel_base=64",
        "regularizer=path_length",
    ),
    "energy": (*SHORT, *WIDTHS, "model=dcgan_autoencoder", "loss=began"),
    "likelihood": ("experiment=vae", *SHORT),
    "blurred": (*SHORT, "experiment=stylegan3_r_folder"),
}  # fmt: skip


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names that a run tells its dashboard."""
    names: set[str] = set()

    def log(self: NoLogger, values: Mapping[str, float], images: int) -> None:
        names.update(values)

    def log_images(self: NoLogger, key: str, *_: Any) -> None:
        names.add(key)

    def scores(self: NoLogger, records: Mapping[str, Any], images: int) -> None:
        names.update(f"score/{name}" for name in records)

    def summary(self: NoLogger, values: Mapping[str, Any]) -> None:
        names.update(values)

    for method in (log, log_images, scores, summary):
        monkeypatch.setattr(NoLogger, method.__name__, method)
    yield names


@pytest.mark.parametrize("name", RUNS)
def test_a_run_logs_only_what_is_declared(
    name: str, logged: set[str], composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    experiment = next((line.partition("=")[2] for line in RUNS[name] if line.startswith("experiment=")), None)
    config = composed(*RUNS[name], *(small(experiment) if experiment else ()))
    run(given_data(config, tmp_path), tmp_path / "run")
    terms = {*(config.regularizer or {}), "adversarial", "evidence"}
    known = SIDES | {"term": terms, "trick": set(config.trick or {})}
    assert logged and "samples" in logged
    assert sorted(key for key in logged if declared(key, known) is None) == []


def test_declarations_tell_kinds_apart() -> None:
    known = SIDES | {"term": {"adversarial", "r1"}, "trick": {"ada"}}
    for name, key in {
        "generator/adversarial": "<player>/adversarial", "discriminator/r1": "<player>/<term>",
        "discriminator/lr": "<player>/lr", "score/fid": "score/<score>", "score/fid_floor": "score/<score>_floor",
        "trick/ada_probability": "trick/<trick>_probability", "discriminator/r1_average": "<player>/<term>_average",
        "singular/generator/levels.0.weight/1": "singular/<player>/<layer>/<place>",
    }.items():  # fmt: skip
        found = declared(name, known)
        assert found is not None and found.name == key, name
    for name in ("generator/r2", "critic/lr", "trick/apa_probability", "logits/other", "progress", "score/"):
        assert declared(name, known) is None, name


def test_every_key_says_its_meaning_and_its_place() -> None:
    assert len({key.name for key in KEYS}) == len(KEYS)
    for key in KEYS:
        assert key.meaning and key.better in ("", "higher", "lower") and key.panel in Panel
        assert set(re.findall(r"<(\w+)>", key.name)) <= {
            "player", "term", "pair", "score", "picture", "side", "figure", "symptom", "trick", "layer", "place",
        }  # fmt: skip
    assert all(f"| `{key.name}` | {key.meaning} |" in table() for key in KEYS)

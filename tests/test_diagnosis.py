"""What a run says is wrong with it: every symptom at its threshold, and runs built to fail in each way."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.analysis.history import WARM_UP, WINDOW, Facts, Sure
from gan_experiments.analysis.orbits import RECORDS, orbit
from gan_experiments.analysis.symptom import Finding
from gan_experiments.analysis.symptoms import SYMPTOMS
from gan_experiments.analysis.watch import PATIENCE, Watch
from gan_experiments.config import build, compose_option, conf_dir
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.experiment import run
from gan_experiments.logging.records import read_records
from gan_experiments.logging.status import RunStatus, read_status
from gan_experiments.objectives.adversarial import Loss, NonSaturating
from gan_experiments.observers.diagnosis import sure
from gan_experiments.signals import Interrupted
from test_resume import measured, signal_after
from wandb_reader import read_finished_run, rows

Compose = Callable[..., DictConfig]
LOSSES = sorted({path.stem for path in (Path(conf_dir()) / "loss").glob("*.yaml")} - {"evidence", "likelihood"})

# constructed histories

FACTS = Facts(Sure(0.07, 3.3), 100_000)
HEALTHY = {
    "accuracy/train": 0.7, "accuracy/generated": 0.7, "discriminator/adversarial": 1.2, "generator/adversarial": 0.9,
    "overfitting/accuracy": 0.02, "accuracy/held_out": 0.68, "logits/train": 1.0, "logits/held_out": 0.95,
    "logits/generated": -1.0, "slope/reals": 1.0, "slope/fakes": 1.1, "diversity/batch": 0.9,
    "diversity/class_entropy": 2.1, "diversity/class_entropy_real": 2.2,
}  # fmt: skip
SURE = {
    "accuracy/train": 0.99, "accuracy/generated": 0.99, "discriminator/adversarial": 0.07, "generator/adversarial": 3.3,
}  # fmt: skip
BLIND = {"accuracy/train": 0.75, "accuracy/generated": 0.35}
BY_HEART = {"overfitting/accuracy": 0.2, "logits/train": 1.0, "logits/held_out": 0.6, "logits/generated": -1.0}


def record(step: int, **values: Any) -> dict[str, Any]:
    return {"kind": "train", "images": 100 * step, "step": step, "values": values}


def scores(step: int, **found: tuple[float, float]) -> dict[str, Any]:
    values = {name: {"value": value, "floor": floor, "real": None} for name, (value, floor) in found.items()}
    return {"kind": "scores", "images": 100 * step, "step": step, "values": values}


def watched(*rounds: Iterable[dict[str, Any]], facts: Facts = FACTS) -> Watch:
    watch = Watch(facts)
    for records in rounds:
        watch.feed(records)
    return watch


def steady(first: int = WARM_UP, **values: Any) -> list[list[dict[str, Any]]]:
    """A full window of the same record."""
    return [[record(first + 10 * place, **(HEALTHY | values))] for place in range(WINDOW)]


def evaluated(*found: dict[str, tuple[float, float]], **values: Any) -> list[list[dict[str, Any]]]:
    """A full window, and an evaluation after another with it."""
    return [*steady(**values), *([scores(WARM_UP + 100 + place, **each)] for place, each in enumerate(found))]


NOTHING: list[tuple[str, list[list[dict[str, Any]]]]] = [
    ("healthy", steady()),
    ("errs a little", steady(**SURE | {"accuracy/train": 0.98})),
    ("errs a little on samples", steady(**SURE | {"accuracy/generated": 0.98})),
    ("not sure", steady(**SURE | {"discriminator/adversarial": 0.08})),
    ("G's loss is low", steady(**SURE | {"generator/adversarial": 3.2})),
    ("sees a little", evaluated({"fid": (10, 1)}, {"fid": (10, 1)}, **BLIND | {"accuracy/train": 0.76})),
    ("at rest", evaluated({"fid": (9.9, 1)}, {"fid": (9.9, 1)}, **BLIND)),
    ("at rest, all modes", evaluated({"modes_captured": (5, 8)}, {"modes_captured": (5, 8)}, **BLIND)),
    ("still falling", evaluated({"fid": (10.6, 1)}, {"fid": (10, 1)}, **BLIND)),
    ("one evaluation", evaluated({"fid": (10, 1)}, **BLIND)),
    ("generalizes", steady(**BY_HEART | {"overfitting/accuracy": 0.19})),
    ("large margins", steady(**BY_HEART | {"logits/held_out": 0.61})),
    ("below generated", steady(**BY_HEART | {"logits/train": -1.1})),
    ("steeper", steady(**{"slope/fakes": 4.9})),
    ("half as varied", [*steady(**{"diversity/batch": 0.4})[:-1], *steady(400, **{"diversity/batch": 0.5})[:1]]),
    ("half the classes", steady(**{"diversity/class_entropy": 1.1})),
    ("less variety", evaluated(*[{"precision": (0.8, 0.8), "recall": (0.25, 0.8)}] * 2)),
    ("poor and few", evaluated(*[{"density": (0.7, 0.9), "coverage": (0.1, 0.9)}] * 2)),
    ("one evaluation of few", evaluated({"precision": (0.8, 0.8), "recall": (0.1, 0.8)})),
    ("growing variety", evaluated(*[{"precision": (0.8, 0.8), "recall": (r, 0.8)} for r in (0.1, 0.11)])),
    ("nearer to the data", evaluated(*[{"precision": (1, 0.8), "recall": (0, 0.8), "fid": (d, 1)} for d in (99, 90)])),
    ("far copies", evaluated({"data_copying": (-9.0, 0.5), "authenticity": (0.1, 0.5), "fid": (10, 1)})),
    ("half the classes are missing", evaluated({"data_copying": (-7.0, 0.5), "recall": (0.5, 0.86)})),
    ("missing, and none a copy", evaluated({"data_copying": (-7.0, 0.5), "authenticity": (0.6, 0.6)})),
    ("poor, so far", evaluated({"precision": (0.3, 0.8), "recall": (0.7, 0.8)})),
    ("own samples", evaluated({"authenticity": (0.4, 0.5), "data_copying": (-4.0, 0.5)})),
    ("values missing", steady(**dict.fromkeys(HEALTHY, None))),
    ("not finite", steady(**dict.fromkeys(SURE, math.nan))),
    ("few records", steady(**SURE)[:-1]),
    ("warming up", steady(WARM_UP - 10, **SURE, **{"slope/fakes": 9.0, "diversity/batch": 0.1})),
]  # fmt: skip
FOUND: list[tuple[str, list[list[dict[str, Any]]]]] = [
    ("vanishing_signal", steady(**SURE)),
    ("dead_discriminator", evaluated({"fid": (10, 1)}, {"fid": (10, 1)}, **BLIND)),
    ("dead_discriminator", evaluated({"fid": (10.5, 1)}, {"fid": (10, 1)}, **BLIND)),
    ("dead_discriminator", evaluated({"modes_captured": (4, 8)}, {"modes_captured": (4, 8)}, **BLIND)),
    ("overfitting", steady(**BY_HEART)),
    ("steep_on_fakes", steady(**{"slope/fakes": 5.0})),
    ("collapse", steady(**{"diversity/batch": 0.49})),
    ("collapse", steady(**{"diversity/class_entropy": 1.09})),
    ("collapse", evaluated(*[{"precision": (0.65, 0.8), "recall": (0.23, 0.8)}] * 2)),
    ("collapse", evaluated(*[{"density": (1.3, 0.9), "coverage": (0.2, 0.9), "fid": (9, 1)}] * 2)),
    ("collapse", evaluated(*[{"high_quality_share": (0.9, 1.0), "modes_captured": (2, 8)}] * 2)),
    ("copying", evaluated({"authenticity": (0.39, 0.5)})),
    ("copying", evaluated({"data_copying": (-4.6, 0.5), "fid": (9.9, 1)})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "records"), FOUND)
def test_a_symptom_is_found_at_its_threshold(name: str, records: list[list[dict[str, Any]]]) -> None:
    watch = watched(*records)
    assert list(watch.active) == [name]
    found = watch.active[name]
    assert found.images == watch.history.images and found.since <= found.images
    (symptom,) = (symptom for symptom in SYMPTOMS if symptom.name == name)
    remedy = symptom.remedy(FACTS.plan, Finding("", {}))
    assert remedy and found.sentence.endswith(f"; {remedy}") and found.numbers
    json.dumps(dict(found.numbers), allow_nan=False)


@pytest.mark.parametrize(("name", "records"), NOTHING, ids=[name for name, _ in NOTHING])
def test_nothing_is_found_below_it(name: str, records: list[list[dict[str, Any]]]) -> None:
    assert not watched(*records).active


def test_poor_samples_are_a_finding_in_the_second_half_of_a_run() -> None:
    poor = {"precision": (0.3, 0.8), "recall": (0.7, 0.8)}
    assert not watched([scores(499, **poor)]).active
    assert list(watched([scores(500, **poor)]).active) == ["undertrained"]
    assert not watched([scores(500, **poor | {"precision": (0.41, 0.8)})]).active
    assert not watched([scores(500, **poor | {"recall": (0.6, 0.8)})]).active


def test_scores_without_held_out_numbers_are_compared_with_real_data() -> None:
    missing = scores(WARM_UP, authenticity=(0.1, 0.5))
    missing["values"]["authenticity"] |= {"floor": None}
    assert not watched([missing]).active
    missing["values"]["authenticity"] |= {"real": 0.5}
    assert list(watched([missing]).active) == ["copying"]


def wave(
    turn: float, amplitude: float = 0.3, growth: float = 0.0, trend: float = 0.0, noise: float = 0.0
) -> list[float]:
    random = seeding.generator(0, "wave")
    return [
        1.4 + trend * place + amplitude * math.exp(growth * place) * math.sin(2 * math.pi * place / turn)
        + noise * torch.randn((), generator=random).item()
        for place in range(RECORDS)
    ]  # fmt: skip


@pytest.mark.parametrize("turn", [4.0, 6.3, 9.0])
def test_orbits_are_seen_with_their_turn_and_amplitude(turn: float) -> None:
    for values in (wave(turn), wave(turn, trend=-0.02), wave(turn, noise=0.06), wave(turn, growth=0.03)):
        found = orbit(values)
        assert found is not None and abs(found.turn - turn) < 1
    steady = orbit(wave(turn))
    assert steady is not None and steady.amplitude == pytest.approx(0.3, rel=0.05)


def test_spirals_inwards_noise_and_trends_are_no_orbits() -> None:
    assert orbit(wave(6, growth=-0.03)) is None
    assert orbit(wave(6, amplitude=0.15)) is None  # a standard deviation of 0.106 around 1.4
    assert orbit(wave(6, amplitude=0.25)) is not None
    assert orbit(wave(64, amplitude=1.0)) is None
    assert orbit([1.0] * RECORDS) is None and orbit([0.0] * RECORDS) is None
    falling = [1.7 * math.exp(-place / 12) for place in range(RECORDS)]
    assert orbit(falling) is None
    random = seeding.generator(0, "noise")
    noise = [orbit((1 + 0.3 * torch.randn(RECORDS, generator=random)).tolist()) for _ in range(300)]
    assert sum(found is not None for found in noise) <= 6


def test_both_losses_must_circle_together() -> None:
    def fed(second: list[float]) -> Watch:
        losses = zip(wave(6), second, strict=True)
        names = ("discriminator/adversarial", "generator/adversarial")
        return watched(*([record(place, **dict(zip(names, pair, strict=True)))] for place, pair in enumerate(losses)))

    assert list(fed(wave(6, amplitude=0.5)).active) == ["oscillation"]
    assert not fed(wave(9)).active and not fed([0.7] * RECORDS).active


def test_a_symptom_lasts_until_it_has_been_away_for_a_while() -> None:
    records = [
        *steady(**{"slope/fakes": 9.0}),
        *([record(400 + 10 * place, **HEALTHY)] for place in range(WINDOW + PATIENCE)),
    ]
    watch, seen = Watch(FACTS), []
    for each in records:
        assert watch.feed(each)
        seen.append("steep_on_fakes" in watch.active)
    first = (WARM_UP + 10 * (WINDOW - 1)) * 100
    assert seen.index(True) == WINDOW - 1
    # means of 7.4, 5.8, 4.3, 2.7, 1.1: two more above the threshold, then three looks that find nothing
    assert seen[WINDOW:] == [True] * 4 + [False] * 4
    again = watched(*records[: WINDOW + 1])
    assert again.active["steep_on_fakes"].since == first < again.active["steep_on_fakes"].images
    assert not watch.feed([{"kind": "parameters", "images": 0, "step": 900, "values": {}}])


# losses


def logistic(value: float) -> float:
    return math.log1p(math.exp(value))


def loss_of(name: str) -> Loss:
    built: Loss = build(compose_option("loss", name, "data"), "loss")
    return built


@pytest.mark.parametrize(
    ("name", "margin", "high"),
    [
        ("nonsaturating", 3.35, logistic(3.35)),
        ("minimax", 3.35, -logistic(-3.35)),
        ("boundary_seeking", 3.35, 3.35**2 / 2),
        ("hinge", 0.95, 0.95),
        ("least_squares", 0.4, 0.5 * 0.9**2),
    ],
)
def test_what_a_sure_discriminator_costs(name: str, margin: float, high: float) -> None:
    found = sure(loss_of(name))
    assert found is not None and found.generator == pytest.approx(high, rel=1e-6)
    share = {"hinge": 2 * (1 - margin), "least_squares": (0.5 - margin) ** 2}.get(name, 2 * logistic(-margin))
    assert found.discriminator == pytest.approx({"hinge": 2, "least_squares": 0.25}.get(name, math.log(4)) * 0.05)
    assert share <= found.discriminator + 1e-9


@pytest.mark.parametrize("name", LOSSES)
def test_only_losses_with_a_boundary_and_a_best_value_know_a_sure_verdict(name: str) -> None:
    loss = loss_of(name)
    found = sure(loss)
    assert (found is None) == (loss.boundary is None or name in {"fgan_kl", "fgan_reverse_kl", "fgan_neyman"})
    watch = watched(*steady(**SURE | {"discriminator/adversarial": -99.0, "generator/adversarial": 99.0}),
                    facts=Facts(found, 10))  # fmt: skip
    assert list(watch.active) == ([] if found is None else ["vanishing_signal"])


def test_smoothed_labels_have_a_best_value_too() -> None:
    found = sure(NonSaturating(real_target=0.9))
    best = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert found is not None and best < found.discriminator < math.log(2)


# runs built to fail


SMALL = (
    "model=mlp", "dataset=ring", "metric=none", "extractor=[none]", "logger=none", "schedule=constant",
    "schedule.batch_size=32", "schedule.images=null", "schedule.steps=350", "schedule.ema.half_life=0",
    "model.generator.hidden=[32]", "model.generator.latent_dim=4", "model.discriminator.hidden=[64,64]",
    "log.every=320", "samples.every=1000000", "samples.count=9", "evaluation.every=1600", "evaluation.samples=250",
    "checkpoint.every=1000000", "dataset.train_points=2000", "dataset.held_out_points=500",
    "schedule.discriminator.optimizer.lr=1e-3", "schedule.generator.optimizer.lr=1e-3",
)  # fmt: skip
OWN = tuple(line for line in SMALL if not line.startswith("dataset."))
D_RATE, G_RATE = "schedule.discriminator.optimizer.lr", "schedule.generator.optimizer.lr"


def patterns() -> Dataset:
    """Sixteen training images of noise: nothing that holds for others."""
    random = seeding.generator(0, "patterns")
    train, held_out = (torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=random) for n in (16, 256))
    return Dataset("patterns", Spec((1, 8, 8)), Split(train), Split(held_out))


def cloud() -> Dataset:
    """One Gaussian."""
    random = seeding.generator(0, "cloud")
    train, held_out = (0.5 * torch.randn(n, 2, generator=random) for n in (1000, 500))
    return Dataset("cloud", Spec((2,)), Split(train), Split(held_out))


class Copycat(nn.Module):
    """A generator that returns training samples of the cloud."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.latent_dim, self.nothing = 1, nn.Parameter(torch.zeros(()))
        self.register_buffer("rows", cloud().train.raw(0, 1000))

    def forward(self, z: Tensor) -> Tensor:
        rows = self.rows[((z[:, 0] * 1e4).long() % 1000).cpu()]
        return rows + 0 * self.nothing


def status(directory: Path) -> RunStatus:
    found = read_status(directory / "status.json")
    assert found is not None
    return found


def diagnosed(config: DictConfig, directory: Path) -> dict[str, Any]:
    """What is wrong at the end of a run, by name, having checked that records and status agree."""
    run(config, directory)
    present = {entry["name"]: entry for entry in status(directory).diagnosis}
    told = [entry["values"] for entry in read_records(directory / "metrics.jsonl") if entry["kind"] == "diagnosis"]
    assert set(present) == ({entry["name"] for entry in told[-1]["present"]} if told else set())
    assert [name for entry in told for name in entry["began"]] or not present
    for entry in present.values():
        assert set(entry) == {"name", "sentence", "numbers", "images", "since"}
        assert 32 * WARM_UP <= entry["since"] <= entry["images"] or entry["name"] == "oscillation"
    return present


def test_a_sure_discriminator_against_a_saturating_loss(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (*SMALL, "loss=minimax", f"{D_RATE}=1e-2", f"{G_RATE}=1e-6", "logger=wandb", "logger.mode=offline")
    lines = tuple(line for line in lines if line != "logger=none")
    with caplog.at_level(logging.WARNING):
        found = diagnosed(composed(*lines), tmp_path / "run")
    assert found["vanishing_signal"]["numbers"]["generator/adversarial"] > -0.04
    warnings = [entry.getMessage() for entry in caplog.records if "vanishing_signal" in entry.getMessage()]
    assert len(warnings) == 1 and "loss=nonsaturating" in warnings[0]
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    file = read_finished_run(folder)
    series = [row["diagnosis/vanishing_signal"] for row in rows(file) if "diagnosis/vanishing_signal" in row]
    assert series[0] == 0 and series[-1] == 1 and series == sorted(series)
    assert "vanishing_signal" in file.summary["diagnosis"]


def test_a_discriminator_that_never_learns(composed: Compose, tmp_path: Path) -> None:
    lines = (*(line for line in SMALL if line != "metric=none"), "metric=[modes]", f"{D_RATE}=1e-30")
    assert "dead_discriminator" in diagnosed(composed(*lines), tmp_path / "run")


def test_a_discriminator_that_learns_sixteen_images_by_heart(composed: Compose, tmp_path: Path) -> None:
    config = composed(*OWN, "model.discriminator.hidden=[256]")
    config.dataset = {"_target_": f"{__name__}.patterns"}
    found = diagnosed(config, tmp_path / "run")
    assert set(found) == {"overfitting"}
    assert found["overfitting"]["numbers"]["overfitting/r_v"] > 0.5


@pytest.mark.parametrize(
    ("lines", "names"), [((), {"oscillation"}), (("regularizer=[r1]", "regularizer.r1.weight=1"), set())]
)
def test_players_that_circle_each_other(
    lines: tuple[str, ...], names: set[str], composed: Compose, tmp_path: Path
) -> None:
    config = composed("experiment=dirac", "logger=none", "log.parameters=false", "schedule.steps=400", *lines)
    assert set(diagnosed(config, tmp_path / "run")) == names


def test_a_generator_that_runs_ahead_of_its_discriminator(composed: Compose, tmp_path: Path) -> None:
    found = diagnosed(composed(*SMALL, "schedule.generator.moves=5", f"{G_RATE}=1e-2"), tmp_path / "run")
    assert set(found) == {"collapse"} and found["collapse"]["numbers"]["diversity/batch"] < 0.5


def test_a_generator_that_returns_training_samples(composed: Compose, tmp_path: Path) -> None:
    lines = (*(line for line in OWN if not line.startswith(("metric", "model"))), "model=mlp", "schedule.steps=310")
    config = composed(*lines, "metric=[authenticity]", "evaluation.every=9600", f"{D_RATE}=1e-4")
    config.dataset = {"_target_": f"{__name__}.cloud"}
    config.model.generator = {"_target_": f"{__name__}.Copycat", "_partial_": True}
    found = diagnosed(config, tmp_path / "run")
    assert set(found) == {"copying"} and found["copying"]["numbers"]["authenticity"] == 0


def test_a_healthy_run_is_left_in_peace(composed: Compose, tmp_path: Path) -> None:
    lines = (*(line for line in OWN if not line.startswith("metric")), "schedule.steps=400", "regularizer=[r1]")
    config = composed(*lines, "metric=[sliced_wasserstein,precision_recall,density_coverage,authenticity]",
                      "regularizer.r1.weight=0.1", f"{D_RATE}=3e-3", f"{G_RATE}=3e-3")  # fmt: skip
    config.dataset = {"_target_": f"{__name__}.cloud"}
    assert diagnosed(config, tmp_path / "run") == {}


@pytest.mark.slow
def test_the_default_recipe_is_left_in_peace(composed: Compose, tmp_path: Path) -> None:
    lines = ("logger=none", "metric=[fid,precision_recall,density_coverage]", "model.generator.width=8",
             "schedule.images=28000", "evaluation.samples=1000", "evaluation.every=14000")  # fmt: skip
    assert diagnosed(composed(*lines, "log.every=2000"), tmp_path / "run") == {}


def test_a_continued_run_is_diagnosed_as_if_it_had_never_stopped(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (*SMALL, "loss=minimax", f"{D_RATE}=1e-2", f"{G_RATE}=1e-6", "log.every=160")
    whole, parts = (composed(*lines, f"run.dir={tmp_path / name}") for name in ("whole", "parts"))
    run(whole, tmp_path / "whole")
    for steps in (200, 342):  # before anything is said, and after
        caplog.clear()
        with monkeypatch.context() as patch:
            signal_after(steps, patch)
            with pytest.raises(Interrupted):
                run(parts, tmp_path / "parts")
        told = any("vanishing_signal" in line for line in caplog.messages)
        assert told == bool(status(tmp_path / "parts").diagnosis) == (steps > WARM_UP)
    caplog.clear()
    run(parts, tmp_path / "parts")
    assert not any("vanishing_signal" in line for line in caplog.messages)
    assert status(tmp_path / "parts").diagnosis == status(tmp_path / "whole").diagnosis != []
    assert measured(tmp_path / "parts") == measured(tmp_path / "whole")


def test_status_files_of_older_runs_have_no_diagnosis(tmp_path: Path) -> None:
    path, now = tmp_path / "status.json", "2026-01-01T00:00:00+00:00"
    content = {"state": "completed", "reason": "", "images": 1, "step": 1, "scores": {}, "objective": None,
               "started": now, "updated": now, "pid": 1}  # fmt: skip
    path.write_text(json.dumps(content))
    assert status(tmp_path).diagnosis == []

"""One pass over samples for all metrics: several networks, stored samples, labels, held-out halves, draws, cache."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from evaluation_bench import DATA, Counting, Witness, images, labelled_noise, noise, sums
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.experiment import narrator, run
from gan_experiments.metrics.base import (
    AnyMetric,
    Reading,
    Rows,
    WalkMetric,
)  # fmt: skip
from gan_experiments.metrics.classification_score import LabelledRows
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.kernel import KernelDistance


def test_each_network_runs_once_over_whole_batches() -> None:
    """Three metrics, two networks: one pass each over reals, held-out and generated samples, always 32 at a time."""
    first, second = Counting(), Counting(2.0)
    metrics: dict[str, AnyMetric] = {"fid": FrechetDistance(), "kid": KernelDistance(2, 20), "eye": Witness()}
    made = Evaluator(DATA, {"one": first, "two": second}, metrics, 50, 32)
    scores = made.evaluate(noise, "raw", 0, 0)
    assert first.batches == second.batches == [32] * (3 + 2 + 2)
    assert list(scores) == ["fid", "kid", "eye", "fid_two", "kid_two", "eye_two"]
    assert scores["fid_two"].value == pytest.approx(4 * scores["fid"].value, rel=1e-6)
    assert scores["fid_two"].floor == pytest.approx(4 * (scores["fid"].floor or 0), rel=1e-6)
    assert made.evaluate(noise, "raw", 0, 0)["fid"].value == scores["fid"].value
    assert first.batches == [32] * (3 + 2 + 2 + 2)


def test_a_metric_is_read_off_every_network_that_can_serve_it() -> None:
    """Classes are those of the second network alone, which then gives the plain name; none at all is refused."""
    made = Evaluator(DATA, {"one": Counting(), "two": Counting(classes=2)}, {"eye": Witness(classes=True)}, 50, 32)
    assert made.names() == ["eye"] and made.evaluate(noise, "raw", 0, 0)["eye"].extractor == "counting"
    with pytest.raises(
        UserError, match="witness needs a classifier of the 2 classes of noise.*counting with no classes"
    ):
        Evaluator(DATA, {"one": Counting()}, {"eye": Witness(classes=True)}, 50, 32)


def test_who_is_shown_what() -> None:
    """Training samples as reals; held-out ones as generated for the floor; all of them beside the generated later."""
    metric = Witness(held_out=True)
    made = Evaluator(DATA, {"one": Counting()}, {"eye": metric}, 40, 32)
    score = made.evaluate(DATA.train, "none", 0, 0)["eye"]
    floor, final = metric.log
    assert sorted(floor["real"]) == sorted(final["real"]) == sorted(sums(images(80, 0)))
    halves = [floor["held_out"], floor["generated"]]
    assert sorted(halves[0] + halves[1]) == sorted(sums(images(40, 1))) and len(halves[0]) == len(halves[1]) == 20
    assert sorted(final["held_out"]) == sorted(sums(images(40, 1))) and set(final["generated"]) < set(final["real"])
    assert (score.n_fake, score.n_floor, score.n_real) == (40, 20, 80)
    assert score.floor == pytest.approx(statistics.fmean(floor["generated"]))


def test_a_metric_with_its_own_floor_sees_no_held_out_fakes() -> None:
    """Its reading brings the number for real data."""
    metric, other = Witness(floor=False), Witness()
    made = Evaluator(DATA, {"one": Counting()}, {"eye": metric, "other": other}, 40, 32)
    score = made.evaluate(noise, "raw", 0, 0)["eye"]
    assert (score.floor, score.n_floor, score.real, len(metric.log), len(other.log)) == (None, 0, 0.25, 1, 2)


def test_stored_samples_are_taken_as_they_are() -> None:
    """All of a split that is smaller than the number asked for, with its labels; draws aside."""
    eye, labels = Witness(), Witness(labels=True)
    made = Evaluator(DATA, {"one": Counting()}, {"eye": eye, "labels": labels}, 1000, 32, draws=3)
    score = made.evaluate(DATA.held_out, "none", 0, 0)["eye"]
    assert sorted(eye.log[-1]["generated"]) == sorted(sums(images(40, 1))) and (score.n_fake, score.draws) == (40, 1)
    assert sorted(labels.log[-1]["generated"]) == [0] * 20 + [1] * 20


def test_labels_of_draws() -> None:
    """The classes asked for reach the metric; samples without are refused, at once where that is known."""
    metric = Witness(labels=True)
    made = Evaluator(DATA, {"one": Counting()}, {"eye": metric}, 40, 32)
    assert made.evaluate(labelled_noise, "raw", 0, 0)["eye"].value == 1 and made.floors()["eye"] == 0.5
    with pytest.raises(UserError, match="witness needs labels, which were not given"):
        made.evaluate(noise, "raw", 0, 0)
    with pytest.raises(UserError, match="metric eye needs samples of known classes"):
        Evaluator(DATA, {"one": Counting()}, {"eye": Witness(labels=True)}, 40, 32, labelled=False)


def test_several_draws_give_a_mean_and_its_interval() -> None:
    """The first draw is the usual one, the others differ; Student's t of their spread."""
    alone = Evaluator(DATA, {"one": Counting()}, {"fid": FrechetDistance()}, 50, 32).evaluate(noise, "raw", 0, 0)["fid"]
    metric = Witness()
    made = Evaluator(DATA, {"one": Counting()}, {"fid": FrechetDistance(), "eye": metric}, 50, 32, draws=3)
    scores = made.evaluate(noise, "raw", 0, 0)
    means = [statistics.fmean(entry["generated"]) for entry in metric.log[1:]]
    eye, fid = scores["eye"], scores["fid"]
    assert len(set(means)) == 3 and eye.value == pytest.approx(statistics.fmean(means))
    reach = 4.3027 * statistics.stdev(means) / 3**0.5
    assert eye.interval == pytest.approx((eye.value - reach, eye.value + reach)) and eye.draws == 3
    assert eye.error == pytest.approx(statistics.stdev(means))
    assert fid.interval is not None and fid.interval[0] < alone.value < fid.interval[1] and fid.value != alone.value


def test_walks_are_refused_for_stored_samples_and_served_for_generators() -> None:
    """Pairs come in whole batches from generators of their own."""

    class Distance(WalkMetric[Rows]):
        """Mean difference of pairs."""

        pairs, epsilon, end = 40, 0.25, True

        def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
            """Anything goes."""

        def update_pair(self, first: Tensor, second: Tensor) -> None:
            """Keep differences."""
            self.generated.update((second - first).flatten(1))

        def compute(self) -> list[Reading]:
            """Their mean."""
            rows = self.generated.compute()
            return [Reading("", float(rows.mean()), {"pairs": len(rows)})]

    def walk(n: int, generator: torch.Generator, epsilon: float, end: bool) -> tuple[Tensor, Tensor]:
        assert end
        return torch.zeros(n, 1, 3, 3), torch.full((n, 1, 3, 3), epsilon)

    made = Evaluator(DATA, {"a": Counting(), "b": Counting()}, {"path": Distance(Rows(), Rows())}, 50, 32)
    scores = made.evaluate(noise, "raw", 0, 0, walk)
    assert list(scores) == ["path"] and scores["path"].value == 0.25 and scores["path"].details == {"pairs": 40}
    with pytest.raises(UserError, match="path walks through a generator's latent space; stored samples have none"):
        made.evaluate(DATA.held_out, "none", 0, 0)


def test_pictures_are_those_of_the_metrics() -> None:
    """Gathered over metrics, by name."""

    class Painter(FrechetDistance):  # type: ignore[misc]
        """A distance with a picture."""

        def pictures(self) -> dict[str, Tensor]:
            """One white pixel."""
            return {"white": torch.full((1, 1, 1), 255, dtype=torch.uint8)}

    made = Evaluator(DATA, {"one": Counting()}, {"fid": Painter()}, 50, 32)
    made.evaluate(noise, "raw", 0, 0)
    assert list(made.pictures()) == ["white"]


def test_labelled_rows() -> None:
    """Rows with a label each, in batches of any size."""
    side = LabelledRows()
    side.update(torch.zeros(2, 3), torch.tensor([0, 1]))
    side.update(torch.ones(1, 3), torch.tensor([5]))
    rows, labels = side.compute()
    assert rows.shape == (3, 3) and sorted(labels.tolist()) == [0, 1, 5]
    assert torch.equal(rows.sum(1) == 3, labels == 5)


@pytest.mark.parametrize(("quantise", "levels"), [("round", [0, 0, 1, 255]), ("truncate", [0, 0, 0, 254])])
def test_how_images_become_bytes(quantise: str, levels: list[int]) -> None:
    """The nearest level, or the next lower one; said in the record, where stored samples are as they were."""
    metric = Witness()
    made = Evaluator(DATA, {"one": Counting()}, {"eye": metric}, 1, 1, quantise=quantise)
    values = torch.tensor([-2.0, -1 + 0.2 / 127.5, -1 + 0.8 / 127.5, 1 - 0.4 / 127.5])

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return torch.cat([values, -torch.ones(5)]).view(1, 1, 3, 3)

    score = made.evaluate(draw, "raw", 0, 0)["eye"]
    assert metric.log[-1]["generated"] == [sum(levels)] and score.quantise == quantise
    assert made.evaluate(DATA.held_out, "none", 0, 0)["eye"].quantise == "stored"
    with pytest.raises(UserError, match="evaluation.quantise=floor: use round or truncate"):
        Evaluator(DATA, {"one": Counting()}, {"eye": Witness()}, quantise="floor")


def test_names_are_known_beforehand() -> None:
    """Those with a floor and those with their own, so that a misspelt objective is refused before training."""
    metrics: dict[str, AnyMetric] = {"fid": FrechetDistance(), "eye": Witness(floor=False)}
    made = Evaluator(DATA, {"one": Counting(), "two": Counting()}, metrics, 50, 32)
    assert sorted(made.names()) == sorted(made.evaluate(noise, "raw", 0, 0)) == ["eye", "eye_two", "fid", "fid_two"]


def test_long_evaluations_say_how_far_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line at most every ten seconds within one stage, none for short ones."""
    now = [0.0]
    monkeypatch.setattr("gan_experiments.experiment.time.monotonic", lambda: now[0])
    tell = narrator(10.0)
    with caplog.at_level(logging.INFO):
        for k in range(5):
            now[0] += 4
            tell("training images", 1000 * k, 50_000)
        now[0] += 9
        tell("score fid", 0, 2)
    assert caplog.messages == ["evaluation: training images, 3,000 of 50,000"]


def test_pictures_of_metrics_are_saved_and_shown(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    """Beside the sample grids and on the dashboard, at the images seen."""
    config = composed(
        "metric=[spectra]", "extractor=[pixels]", "schedule.steps=1", "schedule.images=null", "schedule.batch_size=8",
        "evaluation.samples=100", "evaluation.reals=100", "samples.count=4", "logger.mode=offline", "runtime.threads=1",
        "model.generator.width=4", "model.discriminator.width=4",
    )  # fmt: skip
    run(config, tmp_path / "run")
    (picture,) = (tmp_path / "run" / "samples").glob("spectra-*.png")
    (shown,) = (tmp_path / "run" / "wandb").glob("offline-run-*/files/media/images/pictures/spectra_*.png")
    pixels = [np.asarray(Image.open(path)) for path in (picture, shown)]
    assert np.array_equal(*pixels) and picture.stem.endswith("000000008")

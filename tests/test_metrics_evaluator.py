"""The evaluator: provenance, floors, repeatability, refusals, and several ranks."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Dataset, Modes, Spec, Split, to_unit
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.metrics.base import AnyMetric
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import Extractor, Features, PixelsSource
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.inception_score import InceptionScore
from gan_experiments.metrics.kernel import KernelDistance
from gan_experiments.metrics.modes import ModeCoverage
from gan_experiments.metrics.sliced_wasserstein import SlicedWasserstein


def bytes_of(n: int, seed: int) -> Tensor:
    """Random grey images (n, 1, 3, 3)."""
    return torch.randint(0, 256, (n, 1, 3, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


IMAGES = Dataset("noise", Spec((1, 3, 3)), Split(bytes_of(200, 0)), Split(bytes_of(90, 1)), transform="none")
PIXELS: dict[str, Extractor] = {"pixels": PixelsSource().build(IMAGES)}


def points_dataset(modes: bool = True) -> Dataset:
    """Points of two Gaussians."""
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.0]])

    def split(n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        return Split(centres[torch.arange(n) % 2] + 0.01 * torch.randn(n, 2, generator=generator))

    return Dataset("pair", Spec((2,)), split(300, 0), split(100, 1), modes=Modes(centres, 0.01) if modes else None)


def noise(n: int, generator: torch.Generator) -> Tensor:
    """Float images (n, 1, 3, 3) in [-1, 1]."""
    return torch.rand(n, 1, 3, 3, generator=generator) * 2 - 1


def evaluator(metrics: dict[str, AnyMetric], samples: int = 70, batch_size: int = 32, **settings: object) -> Evaluator:
    """An evaluator on pixels of the noise images."""
    settings = {"seed": 5} | settings
    return Evaluator(IMAGES, PIXELS, metrics, samples, batch_size, **settings)  # type: ignore[arg-type]


def test_a_score_says_where_it_comes_from() -> None:
    """Counts, split, fingerprint, extractor, generator weights, settings and floor; all of it JSON."""
    seen: list[tuple[str, int, int]] = []
    made = evaluator({"fid": FrechetDistance(), "kid": KernelDistance(3, 20)}, progress=lambda *said: seen.append(said))
    scores = made.evaluate(noise, "ema", 6400, 100)
    score = scores["fid"]
    assert (score.n_real, score.n_fake, score.n_floor, score.split) == (200, 70, 70, "train")
    assert (score.weights, score.images, score.step, score.seed, score.batch_size) == ("ema", 6400, 100, 5, 32)
    assert (score.extractor, score.data_fingerprint) == ("pixels", IMAGES.fingerprint)
    assert score.details["ddof"] == 1 and score.seconds > 0 and score.floor == made.floors()["fid"]
    assert scores["kid"].error is not None and "blocks" in scores["kid"].error_from
    record = json.loads(json.dumps(scores["kid"].to_record(), allow_nan=False))
    assert record["name"] == "kid" and record["details"]["subset_size"] == 20
    reals = [("training images", min(32 * k, 200), 200) for k in range(1, 8)]
    parts = [[(f"{kind} images", min(32 * k, 70), 70) for k in range(1, 4)] for kind in ("held-out", "generated")]
    metrics = [("score fid", 0, 2), ("score kid", 1, 2)]
    assert seen == reals + parts[0] + metrics + parts[1] + metrics


def test_the_value_is_that_of_the_quantised_samples() -> None:
    """The same as the metric on all draws at once, rounded to bytes, the surplus of the last batch cut off."""
    made = evaluator({"fid": FrechetDistance()})
    drawn: list[Tensor] = []

    def draw(n: int, generator: torch.Generator) -> Tensor:
        drawn.append(noise(n, generator))
        return drawn[-1]

    value = made.evaluate(draw, "raw", 0, 0)["fid"].value
    images = ((torch.cat(drawn)[:70] + 1) * 127.5).round() / 255
    metric = FrechetDistance()
    metric.update(Features(bytes_of(200, 0).flatten(1) / 255), True)
    metric.update(Features(images.flatten(1)), False)
    assert [len(batch) for batch in drawn] == [32, 32, 32]
    assert value == pytest.approx(metric.compute()[0].value, rel=1e-6)


def test_floors_are_the_scores_of_held_out_images() -> None:
    """A generator that returns the held-out images scores exactly the floor."""
    made = evaluator({"fid": FrechetDistance()}, samples=90, batch_size=30)
    held_out = iter(torch.tensor_split(to_unit(bytes_of(90, 1)), 3))
    score = made.evaluate(lambda n, generator: next(held_out), "raw", 0, 0)["fid"]
    assert score.value == pytest.approx(score.floor, rel=1e-10)
    assert score.floor > 0.01


def test_evaluations_repeat_and_leave_the_global_generator() -> None:
    """The same latents each time; nothing is drawn from the global generator; reals are read once."""
    made = evaluator({"fid": FrechetDistance(), "kid": KernelDistance(2, 20)})
    state = torch.get_rng_state()
    first = made.evaluate(noise, "raw", 0, 0)
    second = made.evaluate(noise, "raw", 0, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: score.value for name, score in first.items()} == {name: score.value for name, score in second.items()}
    assert int(made.metrics["fid"].real.count) == 200


def test_fewer_reals_are_seeded_picks() -> None:
    """With 4 of 200 reals: four different ones, the same each time and for another seed others."""
    values = []
    for seed in (0, 0, 1):
        made = evaluator({"kid": KernelDistance(1, 4)}, reals=4, seed=seed)
        made.floors()
        values.append(made.metrics["kid"].real.compute())
    everything = bytes_of(200, 0).flatten(1) / 255
    places = [{int((everything == row).all(1).nonzero()) for row in rows} for rows in values]
    assert torch.equal(values[0], values[1])
    assert len(places[0]) == 4 and places[0] != places[2] and places[0] != {0, 1, 2, 3}


def test_points_are_scored_as_they_are() -> None:
    """Without an extractor, metrics of points get the points; the floors are near perfect."""
    metrics: dict[str, AnyMetric] = {"modes": ModeCoverage(), "sliced": SlicedWasserstein(), "fid": FrechetDistance()}
    made = Evaluator(points_dataset(), {}, metrics, samples=50, batch_size=50)
    scores = made.evaluate(lambda n, generator: torch.zeros(n, 2), "raw", 0, 0)
    assert scores["modes_captured"].value == 1 and scores["modes_captured"].floor == 2
    assert scores["modes_captured"].n_real == 0 and scores["sliced_w1"].n_real == 300
    assert scores["fid"].value == pytest.approx(0.5, abs=0.01)
    assert scores["sliced_w1"].value > 0.2 and scores["sliced_w1"].floor < 0.1
    assert scores["fid"].extractor == "none"


class Linear(Extractor):
    """Pixels as logits too."""

    def __init__(self) -> None:
        """Nine features, nine classes."""
        super().__init__("linear", "0", 9, 9, "none")

    def extract(self, images: Tensor) -> Features:
        """Pixels in [0, 1]."""
        x = images.flatten(1).float() / 255
        return Features(x, x)


def test_a_metric_of_several_readings_and_no_metrics() -> None:
    """The Inception Score goes by its key, its factors by their names; without metrics nothing is drawn."""
    made = Evaluator(IMAGES, {"linear": Linear()}, {"score": InceptionScore()}, samples=64, batch_size=32)
    assert list(made.evaluate(noise, "raw", 0, 0)) == ["score", "sharpness", "diversity"]
    assert Evaluator(IMAGES, {}, {}).evaluate(noise, "raw", 0, 0) == {}


def test_two_scores_of_one_name_are_refused() -> None:
    """Two Inception Scores would both give sharpness."""
    made = Evaluator(
        IMAGES, {"linear": Linear()}, {"a": InceptionScore(1), "b": InceptionScore(2)}, samples=64, batch_size=32
    )
    with pytest.raises(UserError, match="named sharpness"):
        made.floors()


@pytest.mark.parametrize(
    ("dataset", "extractor", "metric", "message"),
    [
        (IMAGES, None, FrechetDistance(), "fid compares features.*noise holds images.*extractor=classifier"),
        (IMAGES, None, KernelDistance(), "kid compares features"),
        (
            IMAGES,
            PixelsSource().build(IMAGES),
            KernelDistance(),
            "1000 samples, but the held-out part.* to 90 or less",
        ),
        (IMAGES, PixelsSource().build(IMAGES), InceptionScore(), "class probabilities, which extractor pixels"),
        (points_dataset(), None, InceptionScore(), "class probabilities, which extractor none"),
        (IMAGES, None, SlicedWasserstein(), "scores points, but data set noise holds images"),
        (points_dataset(modes=False), None, ModeCoverage(), "known modes.*pair.*dataset=ring"),
        (IMAGES, None, ModeCoverage(), "known modes"),
    ],
)
def test_what_can_not_be_scored_is_refused_at_once(
    dataset: Dataset, extractor: Extractor | None, metric: AnyMetric, message: str
) -> None:
    """Each refusal names the metric, the data or the extractor, and what would be right."""
    with pytest.raises(UserError, match=message):
        Evaluator(dataset, {} if extractor is None else {"only": extractor}, {"metric": metric})


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda n, generator: torch.full((n, 1, 3, 3), float("nan")), NonFinite, "step 7.*NaN"),
        (lambda n, generator: torch.zeros(n, 3, 3, 3), UserError, r"shape \(32, 3, 3, 3\), expected \(32, 1, 3, 3\)"),
    ],
)
def test_bad_samples_are_refused(
    draw: Callable[[int, torch.Generator], Tensor], error: type[Exception], message: str
) -> None:
    """NaN and wrong shapes never become scores."""
    with pytest.raises(error, match=message):
        evaluator({"fid": FrechetDistance()}).evaluate(draw, "raw", 0, 7)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"batch_size": 0}, {"reals": 201}, {"reals": 0}])
def test_impossible_numbers_are_refused(settings: dict[str, int]) -> None:
    """Samples, batch size and reals must be possible."""
    with pytest.raises(UserError, match="expected positive numbers"):
        evaluator({}, **settings)

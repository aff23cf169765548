"""One pass over samples for all metrics: several networks, stored samples, labels, held-out halves, draws, cache."""

from __future__ import annotations

import logging
import statistics
from pathlib import Path
from typing import final

import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Batch, Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import (
    AnyMetric,
    LabelledRows,
    QualityMetric,
    Reading,
    Rows,
    WalkMetric,
    known,
    require_classes,
)  # fmt: skip
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.kernel import KernelDistance
from gan_experiments.metrics.statistics_cache import StatisticsCache, canonical


def images(n: int, seed: int) -> Tensor:
    """Random grey images (n, 1, 3, 3)."""
    return torch.randint(0, 256, (n, 1, 3, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def split(n: int, seed: int) -> Split:
    """Images labelled 0, 1, 0, 1 ..."""
    return Split(images(n, seed), torch.arange(n) % 2)


DATA = Dataset("noise", Spec((1, 3, 3), ("even", "odd")), split(80, 0), split(40, 1))


class Counting(Extractor):
    """Pixels, scaled, as features (and as logits, where it has classes); notes the size of each batch it is shown."""

    def __init__(self, scale: float = 1.0, classes: int = 0, sha256: str = "0") -> None:
        """Features that many times the pixels."""
        super().__init__("counting", sha256, 9, classes, "none")
        self.scale = scale
        self.batches: list[int] = []

    def extract(self, images: Tensor) -> Features:
        """Scaled pixels."""
        self.batches.append(len(images))
        rows = images.flatten(1).float() * self.scale / 255
        return Features(rows, rows[:, : self.num_classes] if self.num_classes else None)


def noise(n: int, generator: torch.Generator) -> Tensor:
    """Float images (n, 1, 3, 3)."""
    return torch.rand(n, 1, 3, 3, generator=generator) * 2 - 1


def labelled_noise(n: int, generator: torch.Generator) -> Batch:
    """Images that were asked to be of class 1."""
    return Batch(noise(n, generator), torch.ones(n, dtype=torch.int64))


@final
class Witness(QualityMetric[Rows]):
    """Tells which samples it was shown on which side, by their first pixels."""

    def __init__(self, held_out: bool = False, labels: bool = False, floor: bool = True, classes: bool = False) -> None:
        """A witness of that nature."""
        super().__init__(Rows(), Rows(), Rows())
        self.needs_held_out, self.needs_labels, self.own_floor, self.classes = held_out, labels, not floor, classes
        self.log: list[dict[str, list[float]]] = []

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Refuse extractors without the data's classes, if it is that kind."""
        if self.classes:
            require_classes("witness", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Keep samples, or labels."""
        part = known(features.labels, "witness", "labels") if self.needs_labels else features.samples
        assert part is not None
        (self.real if real else self.generated).update(part)

    def show_held_out(self, features: Features) -> None:
        """Keep held-out samples."""
        assert features.samples is not None and self.held_out is not None
        self.held_out.update(features.samples)

    def compute(self) -> list[Reading]:
        """The mean of the generated side; everything seen goes into the log."""
        sides = {"real": self.real, "generated": self.generated, "held_out": self.held_out}
        self.log.append(
            {n: side.compute().flatten(1).float().sum(1).tolist() if side.rows else [] for n, side in sides.items()}
            if not self.needs_labels else {"generated": self.generated.compute().tolist()}
        )  # fmt: skip
        return [Reading("", statistics.fmean(self.log[-1]["generated"]), {}, real=0.25)]


def sums(rows: Tensor) -> list[float]:
    """The fingerprints by which a witness knows samples."""
    return rows.flatten(1).float().sum(1).tolist()


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
    assert floor["held_out"] == sums(images(40, 1)[0::2]) and floor["generated"] == sums(images(40, 1)[1::2])
    assert final["held_out"] == sums(images(40, 1)) and set(final["generated"]) < set(final["real"])
    assert (score.n_fake, score.n_floor, score.n_real) == (40, 20, 80)
    assert score.floor == pytest.approx(statistics.fmean(floor["generated"]))


def test_a_metric_with_its_own_floor_sees_no_held_out_fakes() -> None:
    """Its reading brings the number for real data."""
    metric, other = Witness(floor=False), Witness()
    made = Evaluator(DATA, {"one": Counting()}, {"eye": metric, "other": other}, 40, 32)
    score = made.evaluate(noise, "raw", 0, 0)["eye"]
    assert (score.floor, score.n_floor, score.real, len(metric.log), len(other.log)) == (None, 0, 0.25, 1, 2)


def test_stored_samples_are_taken_as_they_are() -> None:
    """All of a split that is smaller than the number asked for, in order, with its labels; draws aside."""
    eye, labels = Witness(), Witness(labels=True)
    made = Evaluator(DATA, {"one": Counting()}, {"eye": eye, "labels": labels}, 1000, 32, draws=3)
    score = made.evaluate(DATA.held_out, "none", 0, 0)["eye"]
    assert eye.log[-1]["generated"] == sums(images(40, 1)) and (score.n_fake, score.draws) == (40, 1)
    assert labels.log[-1]["generated"] == [k % 2 for k in range(40)]


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


def score_with(cache: Path, extractor: Counting, data: Dataset = DATA, seed: int = 0, kid: bool = True) -> list[float]:
    """FID and KID and their floors, and what else the cache was good for."""
    metrics: dict[str, AnyMetric] = {"fid": FrechetDistance()} | ({"kid": KernelDistance(2, 20)} if kid else {})
    made = Evaluator(data, {"one": extractor}, metrics, 50, 32, seed, cache=StatisticsCache(cache))
    return [number for s in made.evaluate(noise, "raw", 0, 0).values() for number in (s.value, s.floor or 0.0)]


def test_reals_are_extracted_once_for_all_runs(tmp_path: Path) -> None:
    """The second time only generated samples go through the network, and not a bit of a score differs."""
    first, second = Counting(), Counting()
    assert score_with(tmp_path, first) == score_with(tmp_path, second)
    assert first.batches == [32] * 7 and second.batches == [32] * 2
    third = Counting()
    score_with(tmp_path, third, kid=False)  # its floors are new, its sums are not: held-out and generated samples
    assert third.batches == [32] * 4


@pytest.mark.parametrize("change", ["weights", "data", "labels", "seed"])
def test_whatever_differs_is_computed_anew(tmp_path: Path, change: str) -> None:
    """Other weights, content, labels or picks never meet what was kept for these."""
    score_with(tmp_path, Counting())
    other = Dataset("noise", DATA.spec, split(80, 7), DATA.held_out)
    renamed = Dataset("noise", DATA.spec, Split(images(80, 0), torch.zeros(80, dtype=torch.int64)), DATA.held_out)
    extractor = Counting(sha256="1") if change == "weights" else Counting()
    data = {"data": other, "labels": renamed}.get(change, DATA)
    fresh = score_with(tmp_path / "elsewhere", Counting(), data, int(change == "seed"))
    assert score_with(tmp_path, extractor, data, int(change == "seed")) == fresh
    assert extractor.batches == [32] * 7


def test_code_and_settings_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ddof or another version of the metrics' code is another file."""
    facts = [
        Evaluator(DATA, {"one": Counting()}, {"fid": FrechetDistance(ddof)}, 50, 32)._floor_facts() for ddof in (0, 1)
    ]
    assert canonical(facts[0]) != canonical(facts[1])
    monkeypatch.setattr("gan_experiments.metrics.reals.code_version", lambda: "other")
    later = Evaluator(DATA, {"one": Counting()}, {"fid": FrechetDistance()}, 50, 32)._floor_facts()
    assert canonical(later) != canonical(facts[1])


@pytest.mark.parametrize("damage", ["cut", "empty", "swapped"])
def test_broken_or_misplaced_files_are_made_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a line that names the file; the scores are those of a fresh computation."""
    expected = score_with(tmp_path / "kept", Counting())
    other = Dataset("noise", DATA.spec, split(80, 7), DATA.held_out)
    score_with(tmp_path / "other", Counting(), other)
    for path, foreign in zip(
        sorted((tmp_path / "kept").iterdir()), sorted((tmp_path / "other").iterdir()), strict=True
    ):
        content = {"cut": path.read_bytes()[:-5], "empty": b"", "swapped": foreign.read_bytes()}[damage]
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert score_with(tmp_path / "kept", Counting()) == expected
    assert caplog.text.count("made anew") == 3 and ("other facts" in caplog.text) == (damage == "swapped")
    names = [path.name for path in (tmp_path / "kept").iterdir()]
    assert len(names) == 3 and not any("tmp" in name for name in names)


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
    assert rows.shape == (3, 3) and labels.tolist() == [0, 1, 5]


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

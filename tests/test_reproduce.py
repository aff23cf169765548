"""The scripts behind the README's numbers: tutorial, comparison, seeds, speed, curves."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gan_experiments.analysis import tables
from gan_experiments.data.base import Dataset, Split, to_unit
from gan_experiments.data.mnist import fashion10k
from gan_experiments.errors import UserError
from gan_experiments.logging.records import Records
from gan_experiments.metrics.classifier_extractor import ClassifierSource
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.runtime import Runtime, choose
from gan_experiments.schema import RuntimeConfig
from tiny import TINY

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "reproduce")]

import runs  # noqa: E402
import seeds  # noqa: E402
import side_by_side  # noqa: E402
import speed  # noqa: E402
import tutorial  # noqa: E402

import curves  # noqa: E402


class Ticks:
    """A clock that is one second later each time it is read."""

    def __init__(self) -> None:
        self.count = itertools.count()

    def __call__(self) -> float:
        return float(next(self.count))


@pytest.fixture
def runtime() -> Runtime:
    return choose(RuntimeConfig(device="cpu", precision="float32", threads=1), images=True)


def small(images: int, held_out: int) -> Dataset:
    """The first few embedded images, which the shipped classifier knows."""
    whole = fashion10k()

    def part(split: Split, count: int) -> Split:
        assert split.labels is not None
        return Split(split.samples[:count], split.labels[:count])

    return Dataset(whole.name, whole.spec, part(whole.train, images), part(whole.held_out, held_out), whole.transform)


def test_the_tutorial_stops_by_the_clock_and_scores_the_better_mode(runtime: Runtime) -> None:
    dataset = small(200, 50)
    torch.manual_seed(0)
    images = to_unit(dataset.train.raw(0, 200))
    trained = tutorial.train(images, 3.0, runtime, width=4, batch_size=16, clock=Ticks())
    assert trained.images == 3 * 16  # the clock is read before the first step and after each
    result = tutorial.score(trained, tutorial.make_evaluator(dataset, 60, 5, runtime, "none"), runtime, 16)
    assert result["fid"] == min(result["fid_by_mode"].values()) == result["fid_by_mode"][result["mode"]]
    assert len(set(result["fid_by_mode"].values())) == 2
    assert all(math.isfinite(result[name]) for name in ("fid", "inception_score", "images_per_second"))
    record = json.loads(json.dumps(result, allow_nan=False))["scores"]["fid"]
    assert (record["n_real"], record["n_fake"], record["images"], record["step"]) == (200, 60, 48, 3)

    # Running statistics: the same number as an evaluator of one's own gives for the network in evaluation mode.
    def draw(n: int, source: torch.Generator) -> Tensor:
        with torch.no_grad():
            images: Tensor = trained.generator(torch.randn(n, 100, 1, 1, generator=source))
        return images

    torch.manual_seed(0)
    trained = tutorial.train(images, 3.0, runtime, width=4, batch_size=16, clock=Ticks())
    trained.generator.eval()
    extractors = {"classifier": ClassifierSource("none").build(dataset)}
    own = Evaluator(dataset, extractors, {"fid": FrechetDistance()}, 60, 250, 5)
    assert own.evaluate(draw, "raw", 0, 0)["fid"].value == result["fid_by_mode"]["running statistics"]


def test_the_tutorial_is_a_dcgan() -> None:
    torch.manual_seed(0)
    generator = tutorial.make_generator(32).apply(tutorial.initialise)
    discriminator = tutorial.make_discriminator(32).apply(tutorial.initialise)
    images = generator(torch.randn(4, 100, 1, 1))
    assert images.shape == (4, 1, 32, 32) and images.abs().max() <= 1
    assert discriminator(images).shape == (4, 1, 1, 1)
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 10_000:
                assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
        assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    logits = torch.tensor([-1.5, 0.0, 2.0]).view(3, 1, 1, 1)
    softplus = [math.log1p(math.exp(x)) for x in (-1.5, 0.0, 2.0)]
    assert float(tutorial.loss(logits, 0.0)) == pytest.approx(sum(softplus) / 3)
    assert float(tutorial.loss(logits, 1.0)) == pytest.approx((sum(softplus) - 0.5) / 3)


def test_a_step_of_the_tutorial_follows_the_non_saturating_gradients(runtime: Runtime) -> None:
    """One step against softplus losses by hand and Adam's first step, -lr * g / (|g| + eps)."""
    images = to_unit(fashion10k().train.raw(0, 16))
    torch.manual_seed(0)
    trained = tutorial.train(images, 1.0, runtime, width=4, batch_size=16, clock=Ticks())
    torch.manual_seed(0)
    generator, discriminator = [
        make(4).apply(tutorial.initialise) for make in (tutorial.make_generator, tutorial.make_discriminator)
    ]
    real, z = images[torch.randperm(16)], torch.randn(16, 100, 1, 1)

    def descend(network: nn.Module, loss: Tensor) -> None:
        parameters = list(network.parameters())
        for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.data -= 2e-4 * slope / (slope.abs() + 1e-8)

    fakes = generator(z).detach()
    descend(discriminator, (F.softplus(-discriminator(real)) + F.softplus(discriminator(fakes))).mean())
    descend(generator, F.softplus(-discriminator(generator(z))).mean())
    for ours, theirs in ((discriminator, trained.discriminator), (generator, trained.generator)):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=2e-5)  # a tenth of what each weight moves


def test_batches_show_each_image_once_an_epoch() -> None:
    images = torch.arange(10.0).view(10, 1, 1, 1)
    found = [batch.flatten() for batch in itertools.islice(tutorial.batches(images, 5), 4)]
    assert sorted(torch.cat(found[:2]).tolist()) == sorted(torch.cat(found[2:]).tolist()) == list(range(10))


def test_summaries_use_the_sample_deviation_and_count_failures() -> None:
    summary = tables.summarize([1.0, 2.0, None, 4.5])
    assert (summary.mean, summary.n, summary.failed) == (2.5, 3, 1)
    assert summary.sd == pytest.approx(math.sqrt((1.5**2 + 0.5**2 + 2.0**2) / 2))
    assert str(summary) == "2.5 ± 1.8"
    assert str(tables.summarize([7.0])) == "7" and str(tables.summarize([None])) == "-"
    assert [tables.number(x) for x in (12345.6, 0.0123456, -3.14159, None)] == ["12,346", "0.01235", "-3.142", "-"]


def test_a_table_of_seeds() -> None:
    def outcome(value: float) -> runs.Outcome:
        return runs.Outcome({"fid": {"value": value, "floor": 1.5}}, "", 1.0, 10)

    table = seeds.table([outcome(10.0), outcome(14.0), runs.Outcome({}, "NaN", 1.0, 5)])
    assert table.splitlines() == [
        "| score | mean ± sd | held-out real | runs | failed |",
        "| ----- | --------: | ------------: | ---: | -----: |",
        "| fid   |  12 ± 2.8 |           1.5 |    2 |      1 |",
    ]
    with pytest.raises(UserError, match="none of 1 runs has scores: NaN"):
        seeds.table([runs.Outcome({}, "NaN", 1.0, 5)])


RUN = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[-1].removeprefix("run.dir=")); folder.mkdir(exist_ok=True)
state, code = sys.argv[1].split("/")
if state != "refused":
    (folder / "status.json").write_text(json.dumps({"state": state, "reason": "became NaN", "images": 64, "step": 1,
        "scores": {"fid": {"value": 3.0}}, "objective": None, "started": "2020-01-01T00:00:00+00:00",
        "updated": f"2020-01-01T00:00:0{sys.argv[2]}+00:00", "pid": 1}))
print("run.dir comes last:", sys.argv[-1])
sys.exit(int(code))
"""


def test_the_end_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runs, "TRAIN", (sys.executable, "-S", "-c", RUN))
    run = tmp_path / "run"
    done = runs.train(run, ["completed/0", "1"])
    assert (done.scores, done.failure, done.images) == ({"fid": {"value": 3.0}}, "", 64) and done.seconds > 0
    out, err = capfd.readouterr()
    assert out == "" and f"run.dir comes last: run.dir={run}" in err
    failed = runs.train(run, ["failed/1", "2"])
    assert (failed.scores, failed.failure) == ({}, "became NaN")
    for refused in (["refused/1", "3"], ["stopped/130", "4"], ["running/0", "5"]):
        with pytest.raises(UserError, match=str(run)):
            runs.train(run, refused)


def test_overrides_are_checked() -> None:
    runs.check_overrides(["loss=hinge", "+x=1"], ["run.seed"])
    for wrong, said in {"--sede=3": "neither", "loss": "neither", "+run.seed=3": "sets run.seed itself"}.items():
        with pytest.raises(UserError, match=said):
            runs.check_overrides([wrong], ["run.seed"])


def record(value: float) -> dict[str, Any]:
    return dict.fromkeys(side_by_side.SAME, 1) | {"value": value, "floor": 1.5}


def test_the_tutorial_gets_the_wall_clock_time_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        side_by_side, "read_config", lambda _: {"evaluation": {"samples": 9}, "runtime": {"threads": 2}}
    )

    def train(directory: Path, overrides: list[str]) -> runs.Outcome:
        directory.mkdir()
        assert "logger=none" in overrides and "loss=hinge" in overrides
        seed = int(directory.name.removeprefix("seed-"))
        return runs.Outcome({"fid": record(10.0 + seed), "inception_score": record(8.0)}, "", 100.0 + seed, 640)

    def run_tutorial(*arguments: Any) -> dict[str, Any]:
        given.append(arguments)
        return {"fid": 40.0, "inception_score": 7.0, "scores": {"fid": record(40.0)}}

    monkeypatch.setattr(side_by_side, "train", train)
    monkeypatch.setattr(side_by_side, "run_tutorial", run_tutorial)
    pairs = [side_by_side.compare(seed, tmp_path / f"seed-{seed}", ["loss=hinge"]) for seed in (0, 1)]
    assert given == [(0, 100.0, 9, 2), (1, 101.0, 9, 2)]
    lines = side_by_side.table(json.loads(json.dumps(pairs))).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[2] == ["0", "10", "8", "40", "7", "4", "1.5", "100"]
    assert cells[4][:2] == ["mean ± sd", "10.5 ± 0.71"]
    with pytest.raises(UserError, match="unfinished comparison"):
        side_by_side.compare(0, tmp_path / "seed-0", [])
    with pytest.raises(UserError, match="don't compare: n_fake 1 and 2"):
        side_by_side.check_comparable(record(1.0), record(1.0) | {"n_fake": 2})


def test_results_belong_to_one_set_of_overrides(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert side_by_side.load(path, ["a=1"]) == []
    path.write_text(json.dumps({"overrides": ["a=1"], "pairs": [{"seed": 0}]}))
    assert side_by_side.load(path, ["a=1"]) == [{"seed": 0}]
    with pytest.raises(UserError, match=r"other overrides \(a=1\)"):
        side_by_side.load(path, [])
    path.write_text("[]")
    with pytest.raises(UserError, match="not a file of results"):
        side_by_side.load(path, [])


def test_speed_counts_whole_steps_of_real_runs() -> None:
    variants = {name: speed.VARIANTS[name] for name in ("auto", speed.PENALTIES)}
    overrides = [*TINY, "runtime.threads=1", "regularizer=[r1]"]
    speeds, chosen = speed.measure(variants, overrides, 1, 0.0, warm_up=1, clock=Ticks())
    assert speeds == {"auto": [16.0], speed.PENALTIES: [16.0]}  # two steps of 16 images in two ticks
    assert all("1 threads" in line for line in chosen.values())
    speeds, _ = speed.measure(variants, [*overrides, "regularizer=none"], 1, 0.0, warm_up=0, clock=Ticks())
    assert list(speeds) == ["auto"]


def test_speed_is_compared_round_by_round() -> None:
    table = speed.table(
        {"auto": [100.0, 200.0, 50.0], "other": [300.0, 400.0, 100.0]}, {"auto": "runtime: cpu", "other": "runtime: x"}
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == ["setting", "images/s", "rounds", "to auto", "chosen"]
    assert cells[2:] == [["auto", "100", "50 to 200", "1.00", "cpu"], ["other", "300", "100 to 400", "2.00", "x"]]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run directory with three records of losses and two of scores."""
    records = Records(tmp_path / "run" / "metrics.jsonl")
    for images in (100, 200, 300):
        losses = {"generator/adversarial": images / 100, "discriminator/adversarial": 1.0, "progress/x": 5}
        records.write("train", images, images // 10, losses)
    for images, value in ((150, 90.0), (300, 30.0)):
        scores = {"fid": {"value": value, "floor": 1.7}, "kid": {"value": -0.1, "floor": 0.0}}
        records.write("scores", images, images // 10, scores)
    records.close()
    return tmp_path / "run"


def test_curves_draw_losses_score_and_floor(finished: Path) -> None:
    figure = curves.draw(curves.read_all([finished], "fid"), "fid")
    left, right = figure.axes
    assert {line.get_label(): line.get_xydata().tolist() for line in left.get_lines()} == {
        "generator": [[100, 1], [200, 2], [300, 3]], "discriminator": [[100, 1], [200, 1], [300, 1]],
    }  # fmt: skip
    score, floor = right.get_lines()
    assert score.get_xydata().tolist() == [[150, 90], [300, 30]] and list(floor.get_ydata()) == [1.7, 1.7]
    assert (right.get_yscale(), floor.get_linestyle(), floor.get_label()) == ("log", "--", "held-out real data: 1.7")
    assert curves.draw(curves.read_all([finished], "kid"), "kid").axes[1].get_yscale() == "linear"
    curves.save(figure, finished / "new" / "curves.png")
    with Image.open(finished / "new" / "curves.png") as image:
        assert image.format == "PNG" and image.size == (1200, 400)
    several = curves.draw(curves.read_all([finished, finished], "fid"), "fid")
    assert len(several.axes[0].get_lines()) == 4
    assert [history.name for history in curves.read_all([finished, finished], "fid")] == [str(finished)] * 2


def test_curves_say_what_is_missing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="has no score modes; it has fid, kid"):
        curves.read_history(finished, "modes")
    with pytest.raises(UserError, match="cannot read"):
        curves.read_history(finished / "none", "fid")
    figure = curves.draw(curves.read_all([finished], "fid"), "fid")
    with pytest.raises(UserError, match=r"end the name in \.png"):
        curves.save(figure, finished / "curves.jpg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"gan-experiments\[plots\]"):
        curves.draw(curves.read_all([finished], "fid"), "fid")

"""Semi-supervised learning: K logits with a fake class at 0, which labels are seen, and the classifier's score."""

from __future__ import annotations

import copy
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from gan_experiments.checks import check_needs
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Term, Verdict
from gan_experiments.games.noise import NoiseGame
from gan_experiments.games.semi_supervised import SemiSupervisedGame
from gan_experiments.logging.status import State, Status
from gan_experiments.metrics.classifier_error import ClassifierError
from gan_experiments.metrics.extractors import Features
from gan_experiments.modules import count_parameters
from gan_experiments.networks.biggan import BigGANDiscriminator, BigGANGenerator
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.networks.semi_supervised import (
    GaussianNoise,
    SemiSupervisedDiscriminator,
    SemiSupervisedGenerator,
    WeightNormLinear,
    adapt,
)
from gan_experiments.objectives.adversarial import Adversarial, NonSaturating
from gan_experiments.objectives.matching import FeatureMatching
from gan_experiments.objectives.supervision import Supervision
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.trainer import Trainer
from gan_experiments.tricks.conditioning import OneHot, ProjectionHead
from gan_experiments.tricks.few_labels import FewLabels, balanced_rows
from gan_experiments.tricks.labels import ClassHead, Classification, ClassifyingDiscriminator
from given import FLOAT32, Given, named

SPEC = Spec((2,), tuple("abc"))


def game_of(spec: Spec = SPEC, **settings: Any) -> SemiSupervisedGame:
    torch.manual_seed(0)
    generator = partial(SemiSupervisedGenerator, latent_dim=4, hidden=[6])
    return SemiSupervisedGame(spec, generator, partial(SemiSupervisedDiscriminator, hidden=[8, 6]), **settings)


def test_conditionings_are_refused() -> None:
    for names in (("one_hot", "projection"), ("one_hot",), ("projection",)):
        kinds = {"one_hot": OneHot, "projection": ProjectionHead}
        told: list[Any] = [named(kinds[name](), name) for name in names]  # type: ignore[arg-type]
        with pytest.raises(UserError, match=f"^conditioning {', '.join(names)}: this game takes no conditioning"):
            game_of(tricks=told)
    small = {"width": 1, "conditional": True, "attention": False}
    for players in ((True, True), (True, False), (False, True)):
        generator, discriminator = (
            partial(kind, **{**small, "conditional": own})
            for kind, own in zip((BigGANGenerator, BigGANDiscriminator), players, strict=True)
        )
        with pytest.raises(UserError, match="^conditional: this game takes no conditioning.*false in model.generator"):
            SemiSupervisedGame(Spec((1, 8, 8), tuple("abc")), generator, discriminator)


def points(n: int = 90, seed: int = 1) -> Split:
    return Split(torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % 3)


def trainer_of(game: Any, data: Split, adversarial: float = 0.5, lr: float = 1e-2) -> Trainer:
    terms: dict[str, list[Term]] = {
        "discriminator": [
            Adversarial(NonSaturating(), "discriminator", adversarial),
            named(Supervision(), "supervision"),
        ],
        "generator": [Adversarial(NonSaturating(), "generator", 0.0), named(FeatureMatching(), "feature_matching")],
    }
    players = []
    for name in ("discriminator", "generator"):
        parameters = [p for module in game.sides[name] for p in module.parameters()]
        rate = lr if name == "generator" else 1e-2
        tuned = TunedOptimizer(torch.optim.Adam, parameters, {"lr": rate}, name)
        players.append(Player(name, game.sides[name], tuned, terms[name]))
    return Trainer(game, players, data, FLOAT32, 8, 10, 7)


class Fixed(nn.Module):
    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, samples: Tensor) -> Verdict:
        return Verdict(self.logits)


def test_k_logits_with_a_fake_class_at_0_in_closed_form() -> None:
    z = ClassifyingDiscriminator(Fixed([2.0, 0.0, -1.0]), 3)(torch.zeros(1)).logits
    assert z.item() == pytest.approx(2.1698460)
    assert z.sigmoid().item() == pytest.approx(0.8975088)
    assert softplus(-z).item() == pytest.approx(0.1081324, abs=1e-6) and softplus(z).item() == pytest.approx(2.2779784)
    even = ClassifyingDiscriminator(Fixed([0.0] * 10), 10)(torch.zeros(1))
    loss = NonSaturating().discriminator(Given(real=even, fake=even))  # type: ignore[arg-type]
    assert even.logits.sigmoid().item() == pytest.approx(10 / 11) and loss.item() == pytest.approx(2.4932055)


def test_unsupervised_loss_is_that_of_k_plus_1_classes() -> None:
    """-log p(not fake) of real and -log p(fake) of generated samples under a softmax with one more logit of 0."""
    logits = torch.randn(5, 4)
    verdict = Verdict(logits.logsumexp(1))
    whole = torch.cat([logits, torch.zeros(5, 1)], 1).softmax(1)
    expected = -(1 - whole[:, -1]).log().mean() - whole[:, -1].log().mean()
    torch.testing.assert_close(NonSaturating().discriminator(Given(real=verdict, fake=verdict)), expected)  # type: ignore[arg-type]


def test_supervision_is_the_cross_entropy_of_labelled_samples_over_real_classes() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 2])
    taught = Verdict(logits.logsumexp(1), heads={"classes": logits})
    batch = Split(torch.zeros(2, 2), labels).take(torch.arange(2))
    expected = (2.1698460 - 2 + math.log(3)) / 2
    assert Supervision()(Given(taught=taught, labelled_batch=batch)).item() == pytest.approx(expected)


def test_labelled_rows_are_balanced_and_drawn_by_their_own_seed() -> None:
    labels = torch.randint(4, (200,), generator=torch.Generator().manual_seed(0))
    rows = balanced_rows(labels, 4, 7, 0)
    assert labels[rows].bincount().tolist() == [7] * 4 and len(rows.unique()) == 28
    assert torch.equal(rows, rows.sort().values) and torch.equal(rows, balanced_rows(labels, 4, 7, 0))
    assert not torch.equal(rows, balanced_rows(labels, 4, 7, 1))
    assert set(balanced_rows(labels, 4, 3, 0).tolist()) <= set(rows.tolist())
    with pytest.raises(UserError, match=r"labels_per_class=5: class number 2 has 4 samples only"):
        balanced_rows(torch.arange(14) % 3, 3, 5, 0)
    with pytest.raises(UserError, match="labels_per_class=0"):
        FewLabels(0)
    with pytest.raises(UserError, match="labelled data of two or more classes"):
        game_of(Spec((2,)))


@pytest.mark.parametrize("n", [4, 9, 21])
def test_labelled_batches_show_every_labelled_sample_equally_often(n: int) -> None:
    game, data = game_of(labels_per_class=3), points()
    trainer_of(game, data)
    places = game.few.places(n, torch.Generator().manual_seed(0))
    counts = places.bincount(minlength=90)[game.few.rows]
    assert len(places) == n == counts.sum() and counts.max() - counts.min() <= 1
    assert not torch.equal(places, game.few.places(n, torch.Generator().manual_seed(1)))


def test_the_round_deals_labelled_samples_with_their_labels() -> None:
    game, data = game_of(labels_per_class=2, labels_seed=5), points()
    trainer = trainer_of(game, data)
    assert torch.equal(game.few.rows, balanced_rows(torch.arange(90) % 3, 3, 2, 5))  # whatever the run's seed
    seen = set()
    for place in range(6):
        round: Any = trainer.deal_from(data, torch.arange(4), place, frozenset())
        samples, labels = round.labelled_batch
        rows = [int((data.samples == sample).all(1).nonzero()) for sample in samples]
        assert labels.tolist() == [row % 3 for row in rows] and round.taught.heads["classes"].shape == (4, 3)
        seen |= set(rows)
    assert seen == set(game.few.rows.tolist())


def test_no_other_label_is_seen() -> None:
    """Wrong labels on all samples but the chosen ones change nothing, and terms that want labels are refused."""
    states = []
    for shift in (0, 1):
        game, data = game_of(labels_per_class=2), points()
        rows = balanced_rows(torch.arange(90) % 3, 3, 2, 0)
        assert data.labels is not None
        wrong = torch.ones(90, dtype=torch.bool).index_fill(0, rows, False)
        data.labels[wrong] = (data.labels[wrong] + shift) % 3
        trainer = trainer_of(game, data)
        game.few.rows = rows
        for _ in range(3):
            trainer.step()
        states.append(game.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert "labels" not in game.deals() and {"labelled_batch", "taught", "classes"} <= game.deals()
    with pytest.raises(UserError, match="needs labels, which SemiSupervisedGame does not deal"):
        check_needs(game, [Classification()])


def test_without_the_adversarial_half_the_classifier_is_a_supervised_one() -> None:
    """D is then the same whatever G does, and what a plain loop over labelled batches gives."""
    weights = []
    for lr in (0.1, 1e-3):
        game = game_of(labels_per_class=4)
        trainer = trainer_of(game, points(), adversarial=0.0, lr=lr)
        for _ in range(3):
            trainer.step()
        weights.append(game.discriminator.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    alone, data = game_of(labels_per_class=4), points()
    trainer = trainer_of(alone, data)
    alone.requires_grad_(True)
    optimizer = torch.optim.Adam(alone.discriminator.parameters(), 1e-2, fused=True)
    for _ in range(3):
        round: Any = trainer.deal(trainer.players[0], [])
        samples, labels = round.labelled_batch
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(alone.discriminator(samples).heads["classes"], labels))
        optimizer.step()
        trainer.players[0].move_count += 1
    for name, value in alone.discriminator.state_dict().items():
        torch.testing.assert_close(value, weights[0][name])


def test_a_resumed_run_chooses_the_same_labels() -> None:
    whole, first, second = (trainer_of(game_of(labels_per_class=3), points()) for _ in range(3))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(2):
        second.step()
    for name, value in whole.game.state_dict().items():
        assert torch.equal(value, second.game.state_dict()[name]), name


def test_other_networks_and_tricks_that_do_not_fit() -> None:
    spec = Spec((1, 8, 8), tuple("abc"))
    game = SemiSupervisedGame(spec, partial(DCGANGenerator, width=2), partial(DCGANDiscriminator, width=2))
    assert game.probe().heads["classes"].shape == (2, 3) and game.probe().logits.shape == (2,)
    head: Any = named(ClassHead(), "train_with_labels")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="trick train_with_labels: this game's discriminator tells classes anyway"):
        game_of(tricks=[head])


def test_weight_normalised_maps() -> None:
    torch.manual_seed(0)
    layer = WeightNormLinear(40, 7, learned_length=True)
    x = torch.randn(5, 40)
    with torch.no_grad():
        layer.length.uniform_(0.5, 2)
    weight = layer.length[:, None] * layer.weight / layer.weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x), x @ weight.t())
    with torch.no_grad():
        layer.weight.mul_(3)
    torch.testing.assert_close(layer(x), x @ weight.t())  # only directions count
    torch.autograd.backward(layer(x).square().sum())
    assert layer.weight.grad is not None and layer.length.grad is not None
    assert (layer.weight.grad * layer.weight).sum(1).abs().max() < 1e-3 < layer.length.grad.abs().min()
    fresh = WeightNormLinear(1000, 500)
    assert len(list(fresh.parameters())) == 2 and fresh.weight.std().item() == pytest.approx(0.1, rel=0.02)
    assert fresh(torch.randn(64, 1000)).var().item() == pytest.approx(
        1, rel=0.1
    )  # unit rows of unit inputs: variance 1


def test_weight_normalised_maps_start_from_data() -> None:
    """Mean 0 and deviation 1 of every output of every layer, noise included; the trainer does it once."""
    torch.manual_seed(0)
    network, samples = SemiSupervisedDiscriminator(Spec((20,)), [8, 6], 0.3, 0.5), 3 + 2 * torch.randn(4000, 20)
    weights = [layer[1].weight.clone() for layer in network.levels]  # type: ignore[index]
    adapt(network, samples)
    h = samples
    for layer, before in zip(network.levels, weights, strict=True):
        noise, linear, _ = layer  # type: ignore[misc]
        outputs = linear(noise(h))
        assert outputs.mean(0).abs().max() < 0.06 and (outputs.std(0) - 1).abs().max() < 0.06
        assert torch.equal(linear.weight, before)
        h = layer(h)
    game, data = game_of(), Split(5 + 3 * points().samples, points().labels)
    fresh = copy.deepcopy(game.state_dict())
    trainer = trainer_of(game, data)
    assert not torch.equal(game.state_dict()["discriminator.network.levels.0.1.length"],
                           fresh["discriminator.network.levels.0.1.length"])  # fmt: skip
    again = game_of()
    torch.manual_seed(99)
    trainer_of(again, data)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in trainer.game.state_dict().items())


def test_noise_is_of_its_size_and_only_in_training() -> None:
    torch.manual_seed(0)
    noise = GaussianNoise(0.5)
    assert noise(torch.ones(200, 200)).std().item() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(noise.eval()(torch.ones(3)), torch.ones(3))
    with pytest.raises(UserError, match="must not be negative"):
        GaussianNoise(-1)


def test_networks_are_those_of_the_published_code() -> None:
    spec = Spec((1, 28, 28), tuple("0123456789"))
    with torch.device("meta"):
        generator, discriminator = SemiSupervisedGenerator(spec), SemiSupervisedDiscriminator(spec)
    sizes = [784, 1000, 500, 250, 250, 250]
    weights = sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))
    assert count_parameters(discriminator) == weights + sum(sizes[1:]) + 251  # biases, the head
    assert count_parameters(generator) == 100 * 500 + 500 * 500 + 2 * 2 * 500 + 500 * 784 + 2 * 784
    noises = [part.std for part in discriminator.modules() if isinstance(part, GaussianNoise)]
    assert noises == [0.6, *[0.5] * 5]
    assert isinstance(discriminator.head[0], GaussianNoise)  # type: ignore[index]
    images = SemiSupervisedGenerator(Spec((1, 8, 8)), 3, [4])(torch.randn(5, 3))
    assert images.shape == (5, 1, 8, 8) and images.abs().max() <= 1
    verdict = SemiSupervisedDiscriminator(Spec((1, 8, 8)), [6, 5])(images)
    assert [tuple(level.shape) for level in verdict.features] == [(5, 6), (5, 5)] and verdict.logits.shape == (5,)


def scored(game: Any, labels: Tensor, samples: Tensor) -> Any:
    data = Split(samples, labels)
    metric = ClassifierError(batch_size=4)
    metric.bind(Dataset("points", SPEC, data, data), None)
    metric.meet(game, FLOAT32)
    (reading,) = metric.compute()
    return reading


def test_classifier_error_counts_wrong_classes_of_held_out_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of()

    def nearest(self: Any, samples: Tensor) -> Verdict:
        assert not self.training
        return Verdict(torch.zeros(len(samples)), heads={"classes": -(samples[:, :1] - torch.arange(3.0)).abs()})

    monkeypatch.setattr(type(game.discriminator), "forward", nearest)
    samples = torch.tensor([0.0, 1, 2, 0, 1, 2, 0, 1, 2, 1])[:, None].repeat(1, 2)
    right = samples[:, 0].long()
    assert scored(game, right, samples).value == 0
    wrong = right.clone()
    wrong[[0, 4, 9]] = torch.tensor([1, 0, 2])
    found = scored(game, wrong, samples)
    assert found.value == pytest.approx(0.3) and found.details == {"wrong": 3, "held_out": 10}
    assert found.interval[0] < 0.3 < found.interval[1] and not found.higher_is_better


def test_classifier_error_says_what_it_needs() -> None:
    metric = ClassifierError()
    plain = NoiseGame(SPEC, MLPGenerator, MLPDiscriminator)
    with pytest.raises(UserError, match="reads the discriminator's classes, but it gives none; set model=semi_super"):
        metric.meet(plain, FLOAT32)
    unlabelled = Split(torch.zeros(2, 2))
    with pytest.raises(UserError, match="needs classes, but data set bare has none"):
        metric.bind(Dataset("bare", Spec((2,)), unlabelled, unlabelled), None)
    metric.update(Features(torch.zeros(1, 1)), real=False)
    with pytest.raises(UserError, match="stored images have none"):
        metric.compute()
    with pytest.raises(UserError, match="batch_size=0"):
        ClassifierError(batch_size=0)


SCRIPTS = Path(__file__).parents[1] / "scripts" / "reproduce"
sys.path.insert(0, str(SCRIPTS))

import semi_supervised as script  # noqa: E402


def finished(directory: Path, error: float) -> None:
    directory.mkdir(parents=True)
    Status(directory / "status.json").update(State.RUNNING, scores={"classifier_error": {"value": error}})
    Status(directory / "status.json").update(State.COMPLETED)


def test_the_scripts_table_is_mean_and_deviation_over_choices_of_labels(tmp_path: Path) -> None:
    tasks = script.plan(tmp_path, [10, 100], 3, ["schedule.images=8"])
    assert len(tasks) == len({task.directory for task in tasks}) == 2 * 2 * 3
    same = [task for task in tasks if task.labels == 100 and task.directory.name.endswith("-2")]
    assert all({"run.seed=2", "model.labels_seed=2", "model.labels_per_class=10"} <= set(t.overrides) for t in same)
    (difference,) = set(same[0].overrides) ^ set(same[1].overrides)
    assert difference == "schedule.discriminator.adversarial=0" and "schedule.images=8" in same[0].overrides
    gan = [task for task in tasks if task.labels == 10 and task.method.startswith("GAN")]
    finished(gan[0].directory, 0.2)
    finished(gan[1].directory, 0.24)
    gan[2].directory.mkdir()
    Status(gan[2].directory / "status.json").update(State.FAILED, reason="NaN")
    assert script.cell(gan) == "22.0 ± 2.8 (2 runs, 1 failed)"  # 4 / sqrt(2)
    assert "| 22.0 ± 2.8 (2 runs, 1 failed) | - (0 runs) |" in script.table(tasks)


def test_the_script_trains_and_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parents[1] / "src"))
    monkeypatch.setattr(script, "METHODS", {"GAN, feature matching": ("gan", ())})
    command = ["semi_supervised.py", "--dir", str(tmp_path), "--labels", "10", "--draws", "1"]
    tiny = ("model.discriminator.hidden=[4]", "model.generator.hidden=[4]", "schedule.steps=2", "schedule.images=null")
    monkeypatch.setattr(sys, "argv", [*command, *tiny])
    script.main()
    said = capfd.readouterr().out
    assert "10 labels" in said and said.count("(1 runs)") == 1
    monkeypatch.setattr(sys, "argv", [*command, "--table", *tiny])
    script.main()
    assert capfd.readouterr().out == said
    for wrong, message in ((["--labels", "15"], "divisible by the 10"), (["--draws", "0"], "1 or more"),
                           (["run.seed=1"], "run.seed"), (["model.labels_seed=1"], "labels_seed")):  # fmt: skip
        monkeypatch.setattr(sys, "argv", [*command, *wrong])
        with pytest.raises(UserError, match=message):
            script.main()

"""What the discriminator makes of training, held-out and generated samples, how steep it is, how varied samples are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Split, to_bytes
from gan_experiments.data.sampler import Sampler
from gan_experiments.game import Round
from gan_experiments.metrics.extractors import Extractor, picks
from gan_experiments.modules import buffers_kept, evaluating
from gan_experiments.objectives.adversarial import Adversarial
from gan_experiments.objectives.likelihood import LikelihoodShare
from gan_experiments.objectives.penalties import squared_norm
from gan_experiments.players import Player
from gan_experiments.sampling import draw
from gan_experiments.trainer import Observer, Trainer

PROBES = 64
"""Samples whose variety is measured: 2,016 pairs tell a few classes from ten, at the price of one forward pass."""
JUDGED = frozenset({"real", "fake"})
"""What rounds of games with a discriminator deal."""
WHITE = 1 - 1 / 255
"""From here on a value of an image in [-1, 1] is its end's byte: black or white."""
LEAST_INSIDE = 0.02
"""Share of values inside the range below which data are line drawings, and saturated samples are right."""
UNSEEN = 500
"""Held-out samples of which likelihoods are taken on the way: their mean is good to 0.03 bits a dimension."""
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Variety(NamedTuple):
    """Mean Euclidean distance of pairs of samples, the share of values strictly inside the range of images, entropy of
    predicted classes in nats, how many there are."""

    distance: Tensor
    inside: Tensor
    entropy: Tensor | None = None
    classes: Tensor | None = None


class Diagnostics(Observer):
    """D's logits, probabilities and accuracies on every move of D; the dearer numbers every `every` images. Of a game
    without D, what its objective says of held-out samples instead (500, and all at the end), of the live weights.

    Accuracy is the share of logits on the right side of the loss's boundary or, for a loss that has none (Wasserstein,
    relativistic, energies), of the middle between the mean logits of real and generated samples. Overfitting, after
    ADA (Karras et al. 2020, equation 1), for losses with a boundary b and for all: r_t = <sign(D(train) - b)> and
    r_v = (<D(train)> - <D(held-out)>) / (<D(train)> - <D(generated)>), left out unless D ranks training samples higher.
    Slopes are mean norms of D's gradient with respect to its input, in the networks' own precision, on training and on
    generated samples. Variety is that of 64 samples of the live weights at fixed latents: mean distance of pairs over
    that of training samples, and the entropy (nats) and number of classes that `classifier` sees in them.
    Weights: their size over that at the start (root mean squares), and the move in which it first went beyond 50.
    With `singular_values` k, the k largest of each weight of both players. Nothing here changes a bit of training.
    """

    def __init__(
        self,
        held_out: Split,
        every: int,
        seed: int,
        batch_size: int,
        classifier: Extractor | None = None,
        singular_values: int = 0,
    ) -> None:
        self.held_out, self.every, self.seed, self.batch_size = held_out, every, seed, batch_size
        self.classifier, self.singular_values = classifier, singular_values
        self.real_variety: Variety | None = None

    def after_move(self, trainer: Trainer, player: Player, round: Round) -> None:
        """Count in what this move has computed anyway."""
        if player.name != "discriminator":
            return
        for name, value in round_logits(round, boundary(trainer)).items():
            trainer.meter.add(name, value, trainer.step_count)

    def after_step(self, trainer: Trainer) -> None:
        """Measure, when it is time."""
        if not (trainer.passed(self.every) or trainer.finished):
            return
        with trainer.aside(), buffers_kept(trainer.game):
            judged = JUDGED.issubset(trainer.game.deals())
            values = (self.verdicts(trainer) if judged else self.likelihoods(trainer)) | self.varieties(trainer)
            for player in trainer.players:
                values[f"weights/{player.name}"] = player.growth.now
                if player.growth.exploded is not None:
                    values[f"weights/{player.name}_exploded_at"] = torch.tensor(float(player.growth.exploded))
            if self.singular_values:
                values |= singular_values(trainer, self.singular_values)
        for name, value in values.items():
            # Weights that have just become NaN are named by the terms of the next move, or by the checkpoint.
            trainer.meter.add(name, value, trainer.step_count, may_overflow=True)

    def verdicts(self, trainer: Trainer) -> dict[str, Tensor]:
        """Logits and slopes of one discriminator on a batch each of training, generated and held-out samples."""
        seed = seeding.derive(self.seed, "diagnostics", trainer.step_count)
        with trainer.runtime.autocast():
            round = trainer.deal_from(
                trainer.data, self.indices(trainer, trainer.data, "train"), seed, frozenset({"reals", "fakes"})
            )
            round = round.parts()[0]  # the first of several discriminators
            slopes = {f"slope/{name}": squared_norm(round.slope(name)).sqrt().mean() for name in ("reals", "fakes")}
            train, fake = (round.points(name)[1]().detach().float() for name in ("reals", "fakes"))
            rows = self.indices(trainer, self.held_out, "held out")
            held_out = trainer.deal_from(self.held_out, rows, seed, frozenset()).parts()[0]
            with torch.no_grad():
                unseen = round.judge(held_out.real_samples(), "reals", held_out.classes_of("reals")).logits.float()
        least = limit(train, fake, boundary(trainer))
        right = (unseen > least).float().mean()
        values = {
            "logits/train": train.mean(),
            "logits/held_out": unseen.mean(),
            "logits/generated": fake.mean(),
            "accuracy/held_out": right,
            "overfitting/accuracy": (train > least).float().mean() - right,
        }
        gap = train.mean() - fake.mean()
        if gap.item() > 0:
            values["overfitting/r_v"] = (train.mean() - unseen.mean()) / gap
        return values | slopes

    def likelihoods(self, trainer: Trainer) -> dict[str, Tensor]:
        """Log-likelihoods of held-out samples, or bounds on them, as held_out/<name>."""
        count = len(self.held_out) if trainer.finished else min(UNSEEN, len(self.held_out))
        batches = torch.split(picks(len(self.held_out), count, self.seed), self.batch_size)
        shares = [term for player in trainer.players for term in player.terms if isinstance(term, LikelihoodShare)]
        sums: dict[str, Tensor] = {}
        with evaluating(trainer.game), trainer.runtime.autocast():
            for place, rows in enumerate(batches):
                seed = seeding.derive(self.seed, "held out", place)
                round = trainer.deal_from(self.held_out, rows, seed, frozenset())
                for name, value in [pair for share in shares for pair in share.figures(round).items()]:
                    sums[name] = sums.get(name, 0) + value.float() * len(rows) / count
        return {f"held_out/{name}": value for name, value in sums.items()}

    def indices(self, trainer: Trainer, split: Split, name: str) -> Tensor:
        """The batch of a split to look at now, drawn without regard to what was trained on last."""
        return Sampler(len(split), self.batch_size, self.seed, "diagnostics", name).indices(trainer.step_count)

    def varieties(self, trainer: Trainer) -> dict[str, Tensor]:
        """How varied samples at fixed latents are beside training samples; nothing where those are all the same."""
        if self.real_variety is None:
            rows = picks(len(trainer.data), PROBES, self.seed)
            self.real_variety = self.variety(trainer.runtime.layout(trainer.data.take(rows).samples))
        real, latents = self.real_variety, seeding.generator(self.seed, "diagnostics", "latents")
        at_once = min(max(self.batch_size, 16), PROBES)
        counts = [min(at_once, PROBES - start) for start in range(0, PROBES, at_once)]
        samples = torch.cat([draw(trainer.game, count, latents, trainer.runtime).samples for count in counts])
        fake = self.variety(samples)
        values = {"diversity/batch": fake.distance / real.distance} if real.distance.item() > 0 else {}
        if real.inside.item() > LEAST_INSIDE:
            values["diversity/unsaturated"] = fake.inside / real.inside
        if fake.entropy is not None and fake.classes is not None and real.entropy is not None:
            values |= {"diversity/class_entropy": fake.entropy, "diversity/class_entropy_real": real.entropy}
            values["diversity/classes"] = fake.classes
        return values

    def variety(self, samples: Tensor) -> Variety:
        """That of images (n, c, h, w) in [-1, 1] or points (n, d)."""
        image = samples.ndim == 4
        inside = (samples.abs() < WHITE).float().mean() if image else torch.zeros((), device=samples.device)
        if len(samples) < 2:
            return Variety(torch.zeros((), device=samples.device), inside)
        distance = torch.nn.functional.pdist(samples.float().flatten(1)).mean()
        if self.classifier is None:
            return Variety(distance, inside)
        logits = self.classifier(to_bytes(samples)).logits
        assert logits is not None
        counts = logits.argmax(1).bincount(minlength=self.classifier.num_classes).float()
        return Variety(distance, inside, torch.special.entr(counts / len(samples)).sum(), (counts > 0).sum())


def classifier_of(dataset: Dataset, extractors: Iterable[Extractor | None]) -> Extractor | None:
    """The first of the extractors that tells the data's own classes apart, if one does."""
    classes = len(dataset.spec.classes)
    return next((e for e in extractors if e is not None and classes and e.num_classes == classes), None)


def boundary(trainer: Trainer) -> float | None:
    """The logit at which the run's adversarial loss can't tell, if it has one."""
    terms = [term for player in trainer.players for term in player.terms]
    return next((term.loss.boundary for term in terms if isinstance(term, Adversarial)), 0.0)


def limit(real: Tensor, fake: Tensor, boundary: float | None) -> Tensor:
    """The logit above which a sample counts as taken for real, a scalar."""
    middle = (real.mean() + fake.mean()) / 2
    return middle if boundary is None else torch.full_like(middle, boundary)


@torch.no_grad()
def round_logits(round: Round, boundary: float | None) -> dict[str, Tensor]:
    """Mean probabilities, accuracies and the gap of logits on the real and generated samples of a round."""
    parts = round.parts()
    real, fake = (torch.cat([part.points(name)[1]().detach().float() for part in parts]) for name in ("reals", "fakes"))
    least = limit(real, fake, boundary)
    values = {
        "discriminator/probability_real": real.sigmoid().mean(),
        "discriminator/probability_fake": fake.sigmoid().mean(),
        "accuracy/train": (real > least).float().mean(),
        "accuracy/generated": (fake <= least).float().mean(),
        "logits/gap": real.mean() - fake.mean(),
    }
    return values if boundary is None else values | {"overfitting/r_t": (real - boundary).sign().mean()}


def singular_values(trainer: Trainer, count: int) -> dict[str, Tensor]:
    """The `count` largest singular values of every weight, as singular/<player>/<layer>/<place>, largest first.

    They are exact, in float32, of the weight as a matrix (outputs, the rest); NaN for weights that aren't finite.
    """
    values: dict[str, Tensor] = {}
    with evaluating(trainer.game), torch.autocast(trainer.runtime.device.type, enabled=False):
        for player, networks in trainer.game.sides.items():
            for layer, weight in weights(networks):
                finite = bool(weight.isfinite().all())
                found = torch.linalg.svdvals(weight.float()) if finite else weight.new_full((count,), torch.nan)
                values |= {f"singular/{player}/{layer}/{place}": value for place, value in enumerate(found[:count])}
    return values


def weights(networks: Sequence[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Every weight of at least two dimensions as a matrix (outputs, the rest), as the layer applies it, by layer."""
    for place, network in enumerate(networks):
        for path, module in network.named_modules():
            if isinstance(module, parametrize.ParametrizationList):
                continue  # the raw weight of a layer that applies another, such as a spectrally normalised one
            applied = list(module.parametrizations) if parametrize.is_parametrized(module) else []
            for name in [*(name for name, _ in module.named_parameters(recurse=False)), *applied]:
                weight: Tensor = getattr(module, name)
                if weight.ndim < 2:
                    continue
                parts = [*([str(place)] if len(networks) > 1 else []), path, *([] if name == "weight" else [name])]
                matrix = weight.transpose(0, 1) if isinstance(module, TRANSPOSED) else weight
                yield ".".join(part for part in parts if part), matrix.flatten(1)

"""What both players want of classes: auxiliary classifiers, hinges over classes, contrastive embeddings.

In the formulas C are class logits, y the class of a real sample or the one asked of a generated one, CE cross-entropy
and <.> the batch mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round, Term


class ClassObjective(ABC):
    """A pair of terms, one a player, each with a weight of its own; `head` names what it reads off the verdicts."""

    head: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, discriminator: float | Curve = 1.0, generator: float | Curve = 1.0) -> None:
        self.weights: dict[str, float | Curve] = {"discriminator": discriminator, "generator": generator}

    @abstractmethod
    def discriminator(self, round: Any) -> Tensor:
        """What the discriminator minimises, a scalar."""

    @abstractmethod
    def generator(self, round: Any) -> Tensor:
        """What the generator minimises, a scalar."""

    def terms(self, name: str) -> list[Term]:
        """Both halves as terms of that name."""
        halves = {"discriminator": self.discriminator, "generator": self.generator}
        return [Half(name, player, self, half) for player, half in halves.items()]


class Half(Term):
    """One player's half of a class objective."""

    def __init__(self, name: str, player: str, whole: ClassObjective, half: Any) -> None:
        super().__init__(player, whole.weights[player])
        self.name, self.half = name, half
        self.needs, self.remedy = ("real", "fake", "labels", "asked", whole.head), whole.remedy

    def check(self, game: Game) -> None:
        """The generator must be asked for classes."""
        if not game.labelled:
            raise UserError(
                f"{self.player}/{self.name}: the generator is not told classes; add conditioning=[batch_norm,...], "
                "[one_hot,...] or [native,...]"
            )

    def __call__(self, round: Round) -> Tensor:
        """The half on this round."""
        value: Tensor = self.half(round)
        return value


class AuxiliaryClassifier(ClassObjective):
    """D: CE(C(x), y) + CE(C(G), y); G: CE(C(G), y) (Odena et al. 2017, AC-GAN).

    With `on_fakes` false D learns from real samples only (as in ACGAN-Mod).
    """

    head = "class_logits"
    remedy = "conditioning=[auxiliary_classifier,...] gives them"

    def __init__(
        self, on_fakes: bool = True, discriminator: float | Curve = 1.0, generator: float | Curve = 1.0
    ) -> None:
        super().__init__(discriminator, generator)
        self.on_fakes = on_fakes

    def discriminator(self, round: Any) -> Tensor:
        """The classes of both sides; 2 log k when undecided."""
        real = cross_entropy(round.real.heads["class_logits"], round.labels)
        return real + self.generator(round) if self.on_fakes else real

    def generator(self, round: Any) -> Tensor:
        """The class asked for; log k when undecided."""
        return cross_entropy(round.fake.heads["class_logits"], round.asked)


class TwinAuxiliaryClassifier(ClassObjective):
    """D: CE(C(x), y) + CE(C'(G), y); G: CE(C(G), y) - CE(C'(G), y) (Gong et al. 2019, TAC-GAN, equation 5).

    The twin C' learns how far generated samples can be told apart; G's second term takes from the first what makes
    an auxiliary classifier prefer samples far from the others' classes.
    """

    head = "twin_class_logits"
    remedy = "conditioning=[twin_auxiliary_classifier,...] gives them"

    def discriminator(self, round: Any) -> Tensor:
        """Each classifier on its own side; 2 log k when undecided."""
        real = cross_entropy(round.real.heads["class_logits"], round.labels)
        return real + cross_entropy(round.fake.heads["twin_class_logits"], round.asked)

    def generator(self, round: Any) -> Tensor:
        """The difference of both on generated samples; 0 when the twins agree."""
        heads = round.fake.heads
        first = cross_entropy(heads["class_logits"], round.asked)
        return first - cross_entropy(heads["twin_class_logits"], round.asked)


class AuxiliaryDiscriminativeClassifier(ClassObjective):
    """D: CE(C(x), y real) + CE(C(G), y generated); G: CE(C(G), y real) - CE(C(G), y generated) over 2k classes
    (Hou et al. 2022, ADC-GAN, equations 7 and 8)."""

    head = "class_origin_logits"
    remedy = "conditioning=[discriminative_classifier,...] gives them"

    def discriminator(self, round: Any) -> Tensor:
        """Class and origin of both sides; 2 log 2k when undecided."""
        k = round.real.heads[self.head].shape[1] // 2
        real = cross_entropy(round.real.heads[self.head], round.labels)
        return real + cross_entropy(round.fake.heads[self.head], round.asked + k)

    def generator(self, round: Any) -> Tensor:
        """How much rather generated than real samples of the class look, in nats."""
        logits = round.fake.heads[self.head]
        k = logits.shape[1] // 2
        return cross_entropy(logits, round.asked) - cross_entropy(logits, round.asked + k)


def crammer_singer(scores: Tensor, targets: Tensor) -> Tensor:
    """<relu(1 - s_y + max_{k != y} s_k)> for scores (n, k) (Crammer & Singer 2001)."""
    own = scores.gather(1, targets[:, None]).squeeze(1)
    others = scores.scatter(1, targets[:, None], -torch.inf)
    return relu(1 - own + others.amax(1)).mean()


class MultiHinge(ClassObjective):
    """Crammer & Singer's hinge over k + 1 classes: D names the class of real samples and the last one for generated
    ones, G wants its class named (Kavalerov et al. 2021, MHGAN, equations 7 and 8)."""

    head = "class_scores"
    remedy = "conditioning=[multi_hinge,...] gives them"

    def discriminator(self, round: Any) -> Tensor:
        """Both sides; 2 when undecided."""
        scores = round.fake.heads[self.head]
        generated = torch.full_like(round.asked, scores.shape[1] - 1)
        return crammer_singer(round.real.heads[self.head], round.labels) + crammer_singer(scores, generated)

    def generator(self, round: Any) -> Tensor:
        """The class asked for; 1 when undecided."""
        return crammer_singer(round.fake.heads[self.head], round.asked)


class EmbeddingObjective(ClassObjective):
    """D on the embeddings of real samples, G on those of generated ones, both by `contrast`."""

    head = "embedding"
    remedy = "conditioning=[contrastive,...] gives them"

    def __init__(self, temperature: float, discriminator: float | Curve = 1.0, generator: float | Curve = 1.0) -> None:
        super().__init__(discriminator, generator)
        if temperature <= 0:
            raise UserError(f"{type(self).__name__}: temperature={temperature} must be positive")
        self.temperature = temperature

    @abstractmethod
    def contrast(self, own: Tensor, others: Tensor, same: Tensor) -> Tensor:
        """The mean loss of cosines `own` (n,) with the own class's embedding and `others` (n, n) with other samples.

        `same` (n, n) says which of these share the class, themselves included.
        """

    def discriminator(self, round: Any) -> Tensor:
        """Of real samples."""
        return self.of(round.real.heads, round.labels)

    def generator(self, round: Any) -> Tensor:
        """Of generated samples."""
        return self.of(round.fake.heads, round.asked)

    def of(self, heads: Any, classes: Tensor) -> Tensor:
        """The loss of unit embeddings with their classes."""
        sample, proxy = heads["embedding"], heads["class_embedding"]
        with torch.autocast(sample.device.type, enabled=False):
            others = sample @ sample.t()
        return self.contrast((sample * proxy).sum(1), others, classes[:, None] == classes)


class Contrastive2C(EmbeddingObjective):
    """-<log((e^{l.e_y/t} + sum_{same} e^{l.l_j/t}) / (e^{l.e_y/t} + sum_j e^{l.l_j/t}))>, j the other samples
    (Kang & Park 2020, ContraGAN, equation 8)."""

    def contrast(self, own: Tensor, others: Tensor, same: Tensor) -> Tensor:
        """Samples of the class count above and below the bar, the others below only."""
        itself = torch.eye(len(own), dtype=torch.bool, device=own.device)
        whole = torch.cat([own[:, None], others.masked_fill(itself, -torch.inf)], 1) / self.temperature
        kept = torch.cat([own[:, None], others.masked_fill(itself | ~same, -torch.inf)], 1) / self.temperature
        return (whole.logsumexp(1) - kept.logsumexp(1)).mean()


class DataToDataCrossEntropy(EmbeddingObjective):
    """-<log(e^{min(f.w_y - m_p, 0)/t} / (e^{min(f.w_y - m_p, 0)/t} + sum_{others} e^{max(f.f_j - m_n, 0)/t}))>, j the
    samples of other classes, m_n = 1 - m_p (Kang et al. 2021, ReACGAN, equation 7)."""

    def __init__(
        self,
        temperature: float = 0.5,
        margin: float = 0.98,
        discriminator: float | Curve = 0.5,
        generator: float | Curve = 0.5,
    ) -> None:
        super().__init__(temperature, discriminator, generator)
        if not 0 <= margin <= 1:
            raise UserError(f"DataToDataCrossEntropy: margin={margin} must be a cosine from 0 to 1")
        self.margin = margin

    def contrast(self, own: Tensor, others: Tensor, same: Tensor) -> Tensor:
        """Margins let easy positives and easy negatives go."""
        positive = (own - self.margin).clamp_max(0)[:, None] / self.temperature
        negative = (others - (1 - self.margin)).clamp_min(0) / self.temperature
        whole = torch.cat([positive, negative.masked_fill(same, -torch.inf)], 1)
        return (whole.logsumexp(1) - positive.squeeze(1)).mean()

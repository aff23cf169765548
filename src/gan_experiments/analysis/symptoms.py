"""What is wrong with a training run, read off its records: the known ways in which GANs fail, and their remedies.

All symptoms are looked for in windows of records, after a warm-up, and only where their numbers are recorded:

| symptom            | losses                                                                    | numbers             |
|--------------------|---------------------------------------------------------------------------|---------------------|
| diverged           | all; where logits may drift together, by their gap and not by their size  | weights, gradients, |
|                    |                                                                           | logits, samples     |
| vanishing_signal   | those with a boundary and a best value (cross-entropies, least squares,   | accuracies, losses  |
|                    | hinge): relativistic, Wasserstein and energy losses have no sure verdict  |                     |
| dead_discriminator | all; without a boundary, accuracy goes by the middle of the mean logits   | accuracies, scores  |
| overfitting        | all, in the same way                                                      | held-out batches    |
| steep_on_fakes     | all                                                                       | slopes              |
| oscillation        | all; only orbits of 3 to 10 records a turn can be seen                    | losses              |
| collapse           | all                                                                       | diversity, scores   |
| undertrained       | all, in the second half of a run                                          | scores              |
| copying            | all                                                                       | scores              |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from gan_experiments.analysis.advice import Plan, either
from gan_experiments.analysis.divergence import Diverged
from gan_experiments.analysis.history import Facts, History
from gan_experiments.analysis.orbits import RECORDS, orbit
from gan_experiments.analysis.score_symptoms import Collapse, Copying, DeadDiscriminator, Undertrained
from gan_experiments.analysis.symptom import Finding, Symptom

CERTAIN = 0.99
"""Accuracy from which D errs so rarely that a batch of 64 mostly holds no error: nothing to learn from them."""
OVERFIT = 0.2
"""Accuracy lost on held-out data, five standard errors of a window of 320 samples, and the least r_v: ADA aims at a
half (Karras et al. 2020), where overfitting has long begun."""
STEEP = 5.0
"""Slopes within a factor of 2 are the rule in runs with and without penalties; runs about to diverge go beyond 10."""


@final
class VanishingSignal(Symptom):
    """D tells all samples for certain, and G pays for it: at such logits its gradient carries next to nothing."""

    name = "vanishing_signal"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """A loss with a gradient there, a smoother or a slower D."""
        return "try " + either(
            plan.option("loss", "nonsaturating"),
            plan.options("regularizer", "r1"),
            plan.trick("instance_noise"),
            plan.factor("discriminator", 0.5),
        )

    def applies(self, facts: Facts) -> bool:
        """Only where a loss has a verdict that is sure."""
        return facts.sure is not None

    def find(self, history: History, facts: Facts) -> Finding | None:
        """Accuracies near 1, D's loss near its best, G's as high as that makes it."""
        names = ("accuracy/train", "accuracy/generated", "discriminator/adversarial", "generator/adversarial")
        real, fake, loss, cost = (history.mean(name) for name in names)
        if real is None or fake is None or loss is None or cost is None or facts.sure is None:
            return None
        if min(real, fake) < CERTAIN or loss > facts.sure.discriminator or cost < facts.sure.generator:
            return None
        text = (
            f"D is sure of {real:.1%} of training and {fake:.1%} of generated samples, and G's loss is {cost:.3g} "
            f"({facts.sure.generator:.3g} or more where D is sure): little is left for G to learn from"
        )
        return Finding(text, dict(zip(names, (real, fake, loss, cost), strict=True)))


@final
class Overfitting(Symptom):
    """D knows the training samples by heart: it takes held-out ones for generated."""

    name = "overfitting"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """Augmentation, penalties, more data or a smaller D."""
        return "try " + either(
            *(plan.trick(name, images=True) for name in ("ada", "diffaugment")),
            plan.turned_on("dataset.flip"),
            plan.options("regularizer", "r1", "lecam"),
            "a smaller D",
            "more data",
        )

    def find(self, history: History, facts: Facts) -> Finding | None:
        """Accuracy on training batches far above that on held-out ones of the same moments, and r_v with it."""
        names = ("overfitting/accuracy", "accuracy/held_out", "logits/train", "logits/held_out", "logits/generated")
        lost, held_out, train, unseen, fake = (history.mean(name) for name in names)
        if lost is None or held_out is None or train is None or unseen is None or fake is None or train <= fake:
            return None
        ratio = (train - unseen) / (train - fake)
        if min(lost, ratio) < OVERFIT:
            return None
        text = (
            f"D is right on {held_out + lost:.1%} of training but {held_out:.1%} of held-out samples (r_v {ratio:.2f}; "
            "0 none, 1 all): it learns them by heart"
        )
        numbers = {"accuracy/train": held_out + lost, "accuracy/held_out": held_out, "overfitting/r_v": ratio}
        return Finding(text, numbers)


@final
class SteepOnFakes(Symptom):
    """D is far steeper at generated samples than at data: G's steps there explode."""

    name = "steep_on_fakes"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """A penalty there, or more of it."""
        added, more = plan.options("regularizer", "r2"), plan.times("regularizer.r2.weight", 10)
        return f"add a penalty on generated samples: {added}" if added else f"try {either(more, plan.lower())}"

    def find(self, history: History, facts: Facts) -> Finding | None:
        """The ratio of mean slopes."""
        reals, fakes = history.mean("slope/reals"), history.mean("slope/fakes")
        if reals is None or fakes is None or fakes <= 0 or fakes < STEEP * reals:
            return None
        text = f"D's slope is {fakes:.3g} at generated and {reals:.3g} at real samples: penalties reach only the data"
        return Finding(text, {"slope/fakes": fakes, "slope/reals": reals})


@final
class Oscillation(Symptom):
    """The players circle each other: both losses come round again and again, and no nearer to rest."""

    name = "oscillation"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """What damps: a penalty, no momentum, lower rates."""
        keys = [f"schedule.{player}.optimizer.betas" for player in plan.levers]
        momentum = [key for key in keys if isinstance(plan.get(key), Sequence) and plan.get(key)[0] != 0]
        return "try " + either(
            plan.options("regularizer", "r1"), " with ".join(f"{key}=[0.0,0.99]" for key in momentum), plan.lower()
        )

    def find(self, history: History, facts: Facts) -> Finding | None:
        """The same turn in both losses, of an amplitude that doesn't shrink; rotation needs no warming up."""
        series = [history.window(f"{player}/adversarial", RECORDS, 0) for player in ("discriminator", "generator")]
        first, second = (None if values is None else orbit(values) for values in series)
        if first is None or second is None or abs(first.turn - second.turn) > 1:
            return None
        text = (
            f"both losses come round once in {first.turn} records and no nearer to rest, with an amplitude of "
            f"{first.amplitude:.3g} in D's and {second.amplitude:.3g} in G's: the players circle each other"
        )
        return Finding(
            text,
            {"turn": first.turn, "discriminator/amplitude": first.amplitude, "generator/amplitude": second.amplitude},
        )


SYMPTOMS: tuple[Symptom, ...] = (
    Diverged(), VanishingSignal(), DeadDiscriminator(), Overfitting(), SteepOnFakes(), Oscillation(), Collapse(),
    Undertrained(), Copying(),
)  # fmt: skip

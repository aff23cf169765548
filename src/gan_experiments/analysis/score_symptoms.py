"""The symptoms that show in scores and samples: dead discriminators, collapse, poor samples, copies."""

from __future__ import annotations

import math
from typing import final

from gan_experiments.analysis.advice import Plan, either
from gan_experiments.analysis.history import Facts, History
from gan_experiments.analysis.symptom import Finding, Symptom

CHANCE = 0.55
"""Balanced accuracy up to which D does no better than tossing coins: a window of 320 has a standard error of 0.03."""
BAD_DISTANCE = 10.0
"""A distance ten times that of held-out data is plain to a metric, so D should see it too; near rest, small networks
on points swing up to four times."""
BAD_SHARE = 0.5
"""A share or count at half of what held-out data reach is as plain."""
STALLED = 0.95
"""A distance that fell by less than a twentieth between two evaluations isn't on its way."""
UNVARIED = 0.5
"""Half of the data's mean distance or class entropy: fewer than half of ten classes, or nearly one."""
HIGH, LOW = 0.8, 0.3
"""Shares of the value of held-out data: samples as good as data, of a variety as small as hard truncation leaves."""
POOR = 0.5
"""Samples of the data's variety, half of which lie off the data."""
COPIES = 5.0
"""C_T is in standard deviations; beyond five below held-out data it isn't chance even over many evaluations."""
INAUTHENTIC = 0.8
"""A fifth fewer samples than held-out data that are farther from the training data than those from each other."""

DISTANCES = ("fid", "sliced_w1")
SHARES = ("high_quality_share", "modes_captured", "precision", "recall", "density", "coverage", "inception_score")
QUALITY_AND_VARIETY = (("precision", "recall"), ("density", "coverage"), ("high_quality_share", "modes_captured"))


@final
class DeadDiscriminator(Symptom):
    """D can't tell samples from data, though a score can, and the score doesn't get better."""

    name = "dead_discriminator"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """A faster, larger or freer D."""
        return "strengthen D: " + either(
            plan.factor("discriminator", 2),
            plan.moves("discriminator"),
            "a wider discriminator",
            "weaker penalties" if plan.get("regularizer") else None,
        )

    def find(self, history: History, facts: Facts) -> Finding | None:
        """Balanced accuracy at chance or below, and a bad score that has stalled."""
        real, fake = history.mean("accuracy/train"), history.mean("accuracy/generated")
        bad = self.stalled(history)
        if real is None or fake is None or bad is None or (real + fake) / 2 > CHANCE:
            return None
        name, value, floor = bad
        text = (
            f"D is right on {real:.1%} of training and {fake:.1%} of generated samples, no better than chance, while "
            f"{name} is {value:.4g} ({floor:.4g} for real data) and no longer gets better: D is dead or too weak"
        )
        return Finding(text, {"accuracy/train": real, "accuracy/generated": fake, name: value, f"{name}_floor": floor})

    def stalled(self, history: History) -> tuple[str, float, float] | None:
        """The first score that is bad and no better than at the evaluation before, with its value for real data."""
        for name in (*DISTANCES, *SHARES):
            now, before = history.score(name), history.score(name, 1)
            if now is None or before is None or now.floor <= 0:
                continue
            if name in DISTANCES:
                bad, stalled = is_far(history, name), now.value >= STALLED * before.value
            else:
                bad, stalled = now.value <= BAD_SHARE * now.floor, STALLED * now.value <= before.value
            if bad and stalled:
                return name, now.value, now.floor
        return None


@final
class Collapse(Symptom):
    """G makes the same few samples whatever its latents."""

    name = "collapse"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """A D that sees several samples at once, penalties, a slower G."""
        return "try " + either(
            plan.trick("packing"),
            plan.trick("minibatch_discrimination"),
            plan.options("regularizer", "r1", "r2"),
            plan.factor("generator", 0.5),
        )

    def find(self, history: History, facts: Facts) -> Finding | None:
        """Samples at fixed latents nearly alike, or of few classes, all through the window; or scores that stay so."""
        distances, entropies = history.window("diversity/batch"), history.window("diversity/class_entropy")
        if distances is not None and max(distances) < UNVARIED:
            now = distances[-1]
            return Finding(f"samples are {now:.2g} times as far apart as data", {"diversity/batch": now})
        real = history.mean("diversity/class_entropy_real")
        if entropies is not None and real is not None and max(entropies) < UNVARIED * real:
            text = f"the entropy of samples' classes is {entropies[-1]:.2f} nats, {real:.2f} for data"
            return Finding(text, {"diversity/class_entropy": entropies[-1], "diversity/class_entropy_real": real})
        if still_improving(history):
            return None  # samples of the first averaged weights are alike and lie where data are dense
        return compare(history, HIGH, math.inf, -math.inf, LOW, "samples are as good as data but of too little variety")


@final
class Undertrained(Symptom):
    """Samples of all kinds, few of them good: G has not learnt enough yet, or can't."""

    name = "undertrained"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """More time, more moves, or a larger G."""
        return "try " + either(plan.longer(), plan.moves("generator"), "a wider generator")

    def find(self, history: History, facts: Facts) -> Finding | None:
        """Variety like the data's with poor quality, once half of the run is over."""
        if history.images < facts.total / 2:
            return None
        return compare(history, -math.inf, POOR, HIGH, math.inf, "samples are as varied as data but too few are good")


@final
class Copying(Symptom):
    """G gives back training samples."""

    name = "copying"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """More data, of its own or by augmentation, or a smaller G."""
        augmented = plan.trick("ada", images=True), plan.turned_on("dataset.flip")
        return "try " + either("more data", *augmented, "a smaller generator")

    def find(self, history: History, facts: Facts) -> Finding | None:
        """Samples nearer to the training data than held-out ones are."""
        if any(is_far(history, name) for name in DISTANCES):
            return None  # what is far from the data can't be copies, though it may lie in a dense spot
        distance, own = history.score("data_copying"), history.score("authenticity")
        copied = own is not None and own.value < INAUTHENTIC * own.floor
        # Where modes are missing, the others may be nearer to the data than held-out samples of all modes are.
        doubtful = own is not None and not copied or lacks_variety(history)
        if distance is not None and distance.value <= distance.floor - COPIES and not doubtful:
            text = f"samples lie nearer to training data than held-out data do: C_T {distance.value:.3g}"
            return Finding(text, {"data_copying": distance.value, "data_copying_floor": distance.floor})
        if own is not None and copied:
            text = (
                f"authentic samples {own.value:.3g}, {own.floor:.3g} of held-out data: the others sit on training data"
            )
            return Finding(text, {"authenticity": own.value, "authenticity_floor": own.floor})
        return None


def lacks_variety(history: History) -> bool:
    """Whether a score of variety is well below that of held-out data, which copies reach."""
    found = [history.score(variety) for _, variety in QUALITY_AND_VARIETY]
    return any(score is not None and score.value < HIGH * score.floor for score in found)


def compare(history: History, good: float, poor: float, varied: float, unvaried: float, text: str) -> Finding | None:
    """The first pair of scores whose quality is from `good` to `poor` and whose variety is from `varied` to `unvaried`
    times that of real data."""
    for first, second in QUALITY_AND_VARIETY:
        quality, variety = history.score(first), history.score(second)
        if quality is None or variety is None or min(quality.floor, variety.floor) <= 0:
            continue
        if good <= quality.value / quality.floor <= poor and varied <= variety.value / variety.floor <= unvaried:
            numbers = {first: quality.value, f"{first}_floor": quality.floor}
            numbers |= {second: variety.value, f"{second}_floor": variety.floor}
            said = ", ".join(
                f"{name} {score.value:.3g} ({score.floor:.3g} for real data)"
                for name, score in ((first, quality), (second, variety))
            )
            return Finding(f"{text}: {said}", numbers)
    return None


def is_far(history: History, name: str) -> bool:
    """Whether a distance is there, and bad."""
    now = history.score(name)
    return now is not None and now.floor > 0 and now.value >= BAD_DISTANCE * now.floor


def still_improving(history: History) -> bool:
    """Whether a distance or, where none is measured, variety got better since the evaluation before, or may have."""
    for name in (*DISTANCES, *(second for _, second in QUALITY_AND_VARIETY)):
        now, before = history.score(name), history.score(name, 1)
        if now is not None:
            if before is None:
                return True
            return now.value < STALLED * before.value if name in DISTANCES else STALLED * now.value > before.value
    return True

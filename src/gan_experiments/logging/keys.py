"""Every key that a run logs, declared once: documentation, dashboards and reports are made from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Panel(StrEnum):
    """Sections of a dashboard, in their order."""

    SCORES = "Scores"
    SAMPLES = "Samples"
    LOSSES = "Losses, term by term"
    HEALTH = "Health"
    PROGRESS = "Progress"


@dataclass(frozen=True)
class Key:
    """A logged key: its name with placeholders such as `<player>`, its meaning, unit, and which way is better.

    `better` is higher, lower or empty; scores' own records say theirs.
    """

    name: str
    meaning: str
    panel: Panel
    unit: str = ""
    better: str = ""

    def matches(self, name: str, known: Mapping[str, Collection[str]]) -> bool:
        """Whether a logged `name` is of this kind; `known` gives the words that some placeholders may stand for."""

        def words(match: re.Match[str]) -> str:
            choices = known.get(match[1])
            return "[^/]+" if choices is None else f"(?:{'|'.join(map(re.escape, choices)) or '(?!)'})"

        pattern = re.sub(r"\\?<(\w+)\\?>", words, re.escape(self.name))
        return re.fullmatch(pattern, name) is not None


KEYS = (
    Key("score/<score>", "a score of the averaged weights (`raw_...`: of the live ones)", Panel.SCORES),
    Key("score/<score>_floor", "what held-out real images get in its place", Panel.SCORES),
    Key("score/<score>_best", "the best value so far (summary)", Panel.SCORES),
    Key("score/<score>_best_images", "images seen when it was best (summary)", Panel.SCORES, "images"),
    Key("score/<score>_last", "the latest value (summary)", Panel.SCORES),
    Key("score/<score>_n", "how many samples it is of (summary)", Panel.SCORES, "samples"),
    Key("score/<score>_floor_n", "how many real images its floor is of (summary)", Panel.SCORES, "samples"),
    Key("score/<score>_record", "how it was obtained: extractor, counts, seed ... (summary)", Panel.SCORES),
    Key("samples", "grid of samples at fixed latents", Panel.SAMPLES),
    Key("pictures/<picture>", "pictures of metrics and traversals of codes", Panel.SAMPLES),
    Key("<player>/adversarial", "the loss of a player, unweighted", Panel.LOSSES),
    Key("<player>/adversarial_<pair>", "the loss of one of several comparisons, before its weight", Panel.LOSSES),
    Key("<player>/<term>", "each other term of a player's objective, unweighted", Panel.LOSSES),
    Key("<player>/<term>_average_<side>", "average logits that `lecam` keeps, real and fake", Panel.LOSSES),
    Key("<player>/<term>_average", "average slope that `path_length` aims at", Panel.LOSSES),
    Key("<player>/<term>_categorical", "information bound of categorical codes", Panel.LOSSES, "nats", "higher"),
    Key("<player>/<term>_continuous", "information bound of continuous codes", Panel.LOSSES, "nats", "higher"),
    Key("<player>/<term>_beta", "multiplier of the information bottleneck", Panel.LOSSES),
    Key("<player>/<term>_information", "information that passes the bottleneck", Panel.LOSSES, "nats"),
    Key("loss/began_k", "BEGAN's k: weight of generated samples in D's loss", Panel.LOSSES),
    Key("loss/began_convergence", "BEGAN's measure of convergence", Panel.LOSSES, "", "lower"),
    Key(
        "likelihood/<figure>", "likelihood of the training batch and its parts", Panel.LOSSES, "bits a number", "lower"
    ),
    Key("held_out/<figure>", "the same of held-out samples", Panel.LOSSES, "bits a number", "lower"),
    Key("discriminator/probability_real", "mean D(x)", Panel.LOSSES),
    Key("discriminator/probability_fake", "mean D(G(z))", Panel.LOSSES),
    Key("logits/gap", "mean logit of reals minus that of samples", Panel.LOSSES),
    Key("logits/train", "mean logit of training samples", Panel.LOSSES),
    Key("logits/held_out", "mean logit of held-out samples", Panel.LOSSES),
    Key("logits/generated", "mean logit of generated samples", Panel.LOSSES),
    Key("accuracy/train", "share of training samples that D calls real", Panel.HEALTH),
    Key("accuracy/held_out", "share of held-out samples that D calls real", Panel.HEALTH),
    Key("accuracy/generated", "share of generated samples that D calls generated", Panel.HEALTH),
    Key("overfitting/r_t", "ADA's heuristic: mean sign of D on training samples", Panel.HEALTH, "", "lower"),
    Key("overfitting/r_v", "ADA's heuristic with held-out samples", Panel.HEALTH, "", "lower"),
    Key("overfitting/accuracy", "accuracy on training minus held-out samples", Panel.HEALTH, "", "lower"),
    Key("slope/reals", "mean norm of D's gradient with respect to reals", Panel.HEALTH),
    Key("slope/fakes", "mean norm of D's gradient with respect to samples", Panel.HEALTH),
    Key("diversity/batch", "distances within 64 samples over those within reals", Panel.HEALTH, "", "higher"),
    Key("diversity/unsaturated", "values inside the images' range, over the share of those of reals", Panel.HEALTH),
    Key("diversity/class_entropy", "entropy of the classes found in samples", Panel.HEALTH, "nats", "higher"),
    Key("diversity/class_entropy_real", "entropy of the classes found in reals", Panel.HEALTH, "nats"),
    Key("diversity/classes", "number of classes found in samples", Panel.HEALTH, "", "higher"),
    Key(
        "singular/<player>/<layer>/<place>",
        "greatest singular values of a weight (`log.singular_values`)",
        Panel.HEALTH,
    ),
    Key("diagnosis/<symptom>", "1 while the numbers say so", Panel.HEALTH, "", "lower"),
    Key("trick/<trick>_probability", "strength of an augmentation now", Panel.HEALTH),
    Key("<player>/gradient_norm", "Euclidean norm of all gradients of an update", Panel.HEALTH),
    Key("weights/<player>", "size of a player's weights over that at the start", Panel.HEALTH),
    Key("weights/<player>_exploded_at", "the move in which they first went beyond 50 times that", Panel.HEALTH),
    Key("<player>/lr", "learning rate", Panel.HEALTH),
    Key("<player>/side", "side of images to which networks have grown", Panel.HEALTH, "pixels"),
    Key("<player>/fade_in", "share of the finest level that is faded in", Panel.HEALTH),
    Key("<player>/blur", "deviation of the blur on D's images", Panel.HEALTH, "pixels"),
    Key("progress/images", "real images seen by D: the x axis of all charts", Panel.PROGRESS, "images"),
    Key(
        "progress/images_per_second", "speed of training, scores and grids apart", Panel.PROGRESS, "images/s", "higher"
    ),
    Key("reason", "why the run ended (summary)", Panel.PROGRESS),
    Key("diagnosis", "names of what ails the run (summary)", Panel.PROGRESS),
)


def declared(name: str, known: Mapping[str, Collection[str]] | None = None) -> Key | None:
    """The most specific declaration of a logged name, or None; `known` as for `Key.matches`."""
    found = [key for key in KEYS if key.matches(name, known or {})]
    return max(found, key=lambda key: len(re.sub("<.*?>", "", key.name)), default=None)


def table() -> str:
    """All keys as a Markdown table."""
    rows = [f"| `{key.name}` | {key.meaning} | {key.unit} | {key.better} |" for key in KEYS]
    return "\n".join(["| key | meaning | unit | better |", "| --- | --- | --- | --- |", *rows])

"""Tricks, penalties, schedules and optimizers that can't be are refused in one line, before or without training."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad_inputs import Bad, answer
from processes import Workshop
from test_divergence import D_RATE, G_RATE
from tiny import TINY

LINEAR = "{{_target_: gan_experiments.curves.Linear, start: {0}, end: {1}}}"
IMAGES = ("model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "metric=none", "extractor=none",
          "logger=none", "schedule.images=64", "schedule.batch_size=8", "run.dir=run")  # fmt: skip
CONSTANT = ("schedule=constant", "schedule.images=320", "schedule.batch_size=16")
OPTIMIZER = "schedule.generator.optimizer"


def images(*lines: str) -> list[str]:
    return [*IMAGES, *lines]


BAD: dict[str, Bad] = {
    # tricks
    "ada on points": Bad(["trick=[ada]"], ["ada", "images", "trick=[apa]"]),
    "diffaugment on points": Bad(["trick=[diffaugment]"], ["diffaugment", "images"]),
    "target beyond signs": Bad(["trick=[apa]", "trick.apa.target=1.5"], ["trick.apa", "1.5", "1)"]),
    "length 0": Bad(["trick=[apa]", "trick.apa.length=0"], ["trick.apa", "length=0"]),
    "interval 0": Bad(["trick=[apa]", "trick.apa.interval=0"], ["trick.apa", "interval=0"]),
    "half an interval": Bad(["trick=[apa]", "trick.apa.interval=2.5"], ["trick.apa.interval=2.5", "whole"]),
    "probability above 1": Bad(["trick=[apa]", "trick.apa.probability=1.2"], ["trick.apa", "probability=1.2", "1]"]),
    "probability in words": Bad(["trick=[apa]", "trick.apa.probability=often"], ["trick.apa", "often"]),
    "probability that leaves its range": Bad(
        ["trick=[apa]", f"trick.apa.probability={LINEAR.format(0, 3)}"], ["trick.apa", "3", "[0, 1]"]
    ),
    "feedback without a sign": Bad(["trick=[apa]", "loss=wasserstein"], ["apa", "Wasserstein", "loss=nonsaturating"]),
    "no such policy": Bad(
        images("trick=[diffaugment]", "trick.diffaugment.policy=[colour]"), ["colour", "translation"], tiny=False
    ),
    "a factor of 2": Bad(images("trick=[augment]", "trick.augment.color=2"), ["color=2", "[0, 1]"], tiny=False),
    "a planned probability below 0": Bad(
        images("trick=[augment]", "trick.augment.probability=-0.1"), ["probability=-0.1"], tiny=False
    ),
    "nothing to augment": Bad(
        images("trick=[ada]", "trick.ada.blit=false", "trick.ada.geometry=false", "trick.ada.color=false"),
        ["trick.ada", "nothing to do"],
        tiny=False,
    ),
    "a pool for none": Bad(["trick=[replay]", "trick.replay.size=0"], ["trick.replay", "size=0"]),
    "a share above 1": Bad(["trick=[replay]", "trick.replay.share=1.5"], ["trick.replay", "share=1.5"]),
    "the best none": Bad(["trick=[top_k]", "trick.top_k.share=0"], ["trick.top_k", "share=0", "(0, 1]"]),
    "top k of pairs": Bad(["trick=[top_k]", "loss=relativistic"], ["top_k", "loss=nonsaturating"]),
    "negative noise": Bad(["trick=[instance_noise]", "trick.instance_noise.std=-1"], ["instance_noise", "std=-1"]),
    "unrolled backwards": Bad(["trick=[unrolled]", "trick.unrolled.steps=-1"], ["trick.unrolled", "steps=-1"]),
    "unrolled by an unknown rule": Bad(["trick=[unrolled]", "optimizer=rmsprop"], ["unrolled", "RMSprop", "Adam"]),
    "smoothed critic": Bad(["trick=[label_smoothing]", "loss=wasserstein"], ["label_smoothing", "wasserstein"]),
    "no such trick": Bad(["trick=[ema2]"], ["ema2", "ema"]),
    # penalties and other terms
    "every 0 moves": Bad(["regularizer=[r1]", "regularizer.r1.every=0"], ["regularizer.r1", "every=0", "1"]),
    "every -3 moves": Bad(["regularizer=[r1]", "regularizer.r1.every=-3"], ["regularizer.r1", "every=-3"]),
    "a negative weight": Bad(["regularizer=[r1]", "regularizer.r1.weight=-1"], ["regularizer.r1", "weight=-1"]),
    "a weight that turns negative": Bad(
        ["regularizer=[r1]", f"regularizer.r1.weight={LINEAR.format(1, -1)}"], ["regularizer.r1", "weight", "-1"]
    ),
    "an infinite weight": Bad(["regularizer=[r1]", "regularizer.r1.weight=inf"], ["regularizer.r1.weight", "finite"]),
    "a player who isn't there": Bad(["regularizer=[r1]", "regularizer.r1.player=critic"], ["critic", "discriminator"]),
    "a penalty of the wrong player": Bad(
        ["regularizer=[r1]", "regularizer.r1.player=generator"], ["regularizer.r1.player=discriminator"]
    ),
    "an average that stands still": Bad(
        ["regularizer=[lecam]", "regularizer.lecam.decay=1"], ["regularizer.lecam", "decay=1", "below 1"]
    ),
    "a probability of 2": Bad(
        images("regularizer=[cr]", "regularizer.cr.flip=2"), ["regularizer.cr", "flip=2"], tiny=False
    ),
    "consistency of points": Bad(["regularizer=[cr]"], ["cr", "images", "regularizer=[zcr]"]),
    "clipped to nothing": Bad(
        ["regularizer=[weight_clipping]", "regularizer.weight_clipping.limit=0"], ["weight_clipping", "limit=0"]
    ),
    "clipped and normalised": Bad(["trick=[spectral_norm]", "regularizer=[weight_clipping]"], ["weight_clipping"]),
    "styles of a plain generator": Bad(["regularizer=[path_length]"], ["path_length", "model=stylegan2"]),
    "one image to compare": Bad(
        ["trick=[minibatch_discrimination]", "schedule.batch_size=1"],
        ["schedule.batch_size=1", "schedule.batch_size=2"],
    ),
    "targets the wrong way round": Bad(["loss.real_target=0", "loss.fake_target=1"], ["loss", "fake_target=1"]),
    # tempo
    "a lazy word": Bad(["schedule.discriminator.lazy=apart"], ["schedule.discriminator.lazy=apart", "separate"]),
    "two intervals apart": Bad(
        [
            "regularizer=[r1,r2]",
            "regularizer.r1.every=4",
            "regularizer.r2.every=8",
            "schedule.discriminator.lazy=separate",
        ],
        ["schedule.discriminator.lazy=separate", "4", "8"],
    ),
    "at once, twice": Bad(
        ["schedule.simultaneous=true", "schedule.discriminator.moves=2"], ["schedule.simultaneous=true", "moves=1"]
    ),
    "no moves": Bad(["schedule.discriminator.moves=0"], ["schedule.discriminator.moves=0"]),
    "order twice": Bad(["schedule.order=[generator,generator]"], ["schedule.order", "discriminator"]),
    "order of strangers": Bad(["schedule.order=[generator,critic]"], ["schedule.order", "critic"]),
    "no rate": Bad(["schedule.discriminator.lr_factor=0"], ["schedule.discriminator", "lr_factor=0"]),
    "an objective of nothing": Bad(["schedule.generator.adversarial=0"], ["generator", "nothing to minimise"]),
    "an average of half of them": Bad(["schedule.ema.buffers=mean"], ["schedule.ema.buffers=mean", "average"]),
    # optimizers and curves
    "a negative rate": Bad([*CONSTANT, f"{G_RATE}=-1"], [OPTIMIZER, "-1"]),
    "a beta above 1": Bad([*CONSTANT, f"{OPTIMIZER}.betas=[0.5,1.5]"], [OPTIMIZER, "1.5"]),
    "a rate that turns negative": Bad([f"{G_RATE}.end=-1e-3"], [f"{G_RATE}", "-0.001"]),
    "a beta that leaves its range": Bad(
        [*CONSTANT, f"{OPTIMIZER}.betas=[0.0,{LINEAR.format(0.9, 1.2)}]"], [f"{OPTIMIZER}.betas", "1.2"]
    ),
    "momentum of Adam": Bad([*CONSTANT, f"+{OPTIMIZER}.momentum=0.9"], [OPTIMIZER, "momentum", "betas"]),
    "an optimizer with a closure": Bad(
        [*CONSTANT, f"{OPTIMIZER}._target_=torch.optim.LBFGS", f"~{OPTIMIZER}.betas"],
        [f"{OPTIMIZER}._target_", "LBFGS", "torch.optim.Adam"],
    ),
    "a curve over nothing": Bad([f"{G_RATE}.over=0"], [G_RATE, "over=0"]),
    "a curve before the start": Bad([f"{G_RATE}.after=-1"], [G_RATE, "after=-1"]),
    "a curve without its height": Bad([f"{G_RATE}.start=abc"], [f"{G_RATE}.start=abc", "number"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_training(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(BAD[name], workshop, tmp_path)


def test_runs_that_end_in_nan_say_which_rate_to_lower(workshop: Workshop, tmp_path: Path) -> None:
    for rate, name in ((D_RATE, "discriminator"), (G_RATE, "generator")):
        lines = [line for line in TINY if line.partition("=")[0] not in ("schedule.images", "schedule.batch_size")]
        bad = Bad([*lines, *CONSTANT, f"{rate}=1e30", f"run.dir={name}"], [f"the {name}'s weights", rate], tiny=False)
        for _ in range(2):
            answer(bad, workshop, tmp_path)

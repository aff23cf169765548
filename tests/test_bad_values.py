"""Values that can't be are refused in one line that names the key and says what fits, before torch is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad_inputs import Bad, answer
from processes import Workshop

G = "schedule.generator"
LINES = {
    "schedule.batch_size=0": "must be 1 or more",
    "schedule.batch_size=1.5": "must be a whole number",
    "schedule.batch_size=many": "must be a whole number",
    "schedule.images=1e30": "schedule.images=1e+30: is beyond reason",
    "schedule.images=-5": "must be 1 or more",
    "schedule.order=discriminator": "must be a list of texts or null",
    "schedule.simultaneous=maybe": "must be true or false",
    "schedule.ema.half_life=-5": "must be 0 or more",
    "schedule.ema.half_life=often": "must be a number or a curve",
    "schedule.ema.half_life=null": "must be a number or a curve",
    "schedule.ema.half_life=true": "must be a number or a curve",
    f"{G}.adversarial=abc": "must be a number or a curve",
    f"{G}.adversarial=-1": "must be 0 or more",
    f"{G}.moves=0": "must be 1 or more",
    f"{G}.lr_factor=0": "must be above 0",
    f"{G}.optimizer.lr=abc": "must be a number or a curve",
    f"{G}.optimizer.lr=null": "must be a number or a curve",
    f"{G}.optimizer.lr=true": "must be a number or a curve",
    f"{G}.optimizer.lr=-1": "must be above 0",
    f"{G}.optimizer.lr=0": "must be above 0",
    f"{G}.optimizer.lr=[1e-3]": "write a number",
    f"{G}.optimizer.lr.start=abc": f"{G}.optimizer.lr.start=abc: must be a number",
    f"{G}.optimizer.lr.over=-1": f"{G}.optimizer.lr.over=-1: must be 1 or more",
    f"{G}.optimizer.betas=[0.5]": "must be a list of 2 numbers or curves",
    f"{G}.optimizer.betas=0.5": "must be a list of 2 numbers or curves",
    f"{G}.optimizer.betas=[0.5,1.0]": "must be from 0 to below 1",
    f"{G}.optimizer.betas=[0.5,x]": "must be a number or a curve",
    f"+{G}.optimizer.momentum=0.5": "Adam takes no momentum",
    f"+{G}.optimizer.eps=-1": "must be 0 or more",
    f"+{G}.optimizer.amsgrad=perhaps": "must be true or false",
    f"{G}.optimizer=3": "expected a node with _target_",
    "model.generator.latent_dim=0": "must be 1 or more",
    "model.generator.latent_dim=2.5": "must be a whole number",
    "model.generator.latent_dim=null": "must be a whole number",
    "model.generator.latent_dim=true": "must be a whole number",
    "model.generator.latent_dim=1e18": "is beyond reason",
    "model.generator.hidden=[0]": "must be 1 or more",
    "model.generator.hidden=[]": "must have 1 item or more",
    "model.generator.hidden=8": "must be a list of whole numbers",
    "model.generator.hidden=[8,x]": "must be a whole number",
    "model.generator.hidden=[8,[8]]": "not a list",
    "model.generator.batch_norm=often": "must be true or false",
    "model.generator.batch_norm=1": "must be true or false",
    "model.generator.init_std=-1": "must be 0 or more",
    "model.generator.init_std=wide": "must be a number or null",
    "model.generator=3": "must be a node with _target_",
    "loss.real_target=high": "must be a number",
    "dataset.train_points=0": "must be 1 or more",
    "dataset.seed=-1": "must be from 0",
    "run.seed=-1": "must be from 0",
    "run.seed=one": "must be a whole number",
    "run.seed=null": "must be a whole number",
    "run.debug=maybe": "must be true or false",
    "log.singular_values=-1": "must be 0 or more",
    "evaluation.samples=1e99": "evaluation.samples=1e+99: is beyond reason",
    "checkpoint.keep=0": "must be 1 or more",
}
BAD = {line: Bad([line], [line.lstrip("+").partition("=")[0], said]) for line, said in LINES.items()}
BAD |= {
    "latents no machine holds": Bad(["model.generator.latent_dim=1000000000000"], ["not enough memory", "latent_dim"]),
    "layers no machine holds": Bad(["model.discriminator.hidden=[10000000000000]"], ["not enough memory"]),
    "unknown activation": Bad(["model.generator.activation=3"], ["model: unknown activation '3'; there are relu"]),
    "list for an activation": Bad(["model.generator.activation=[relu]"], ["model: unknown activation '[relu]'"]),
    "list for a latent": Bad(["model.latent=[normal]"], ["model: latent=[normal]: use normal or uniform"]),
    "two lengths": Bad(["schedule.steps=3"], ["schedule.images", "schedule.steps"]),
    "width 0": Bad(
        ["model=dcgan", "model.generator.width=0"], ["model.generator.width=0: must be 1 or more"], tiny=False
    ),
    "tags": Bad(["logger=wandb", "logger.tags=one"], ["logger.tags=one: must be a list of texts"]),
    "a number for a text": Bad(
        ["logger={_target_: gan_experiments.logging.wandb_logger.WandbLogger, name: 7}"], ["logger", "7"]
    ),
    "an object for a number": Bad(
        ["regularizer=[r1]", "regularizer.r1.every={_target_: gan_experiments.curves.Constant, value: 3}"],
        ["regularizer.r1.every: must be a whole number, not a Constant"],
    ),
    "dropped list": Bad(["regularizer=[r1]", "regularizer.r1.weight=[1,2]"], ["a number or a curve, not a list"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_values(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(BAD[name], workshop, tmp_path)


@pytest.mark.parametrize("line", ["schedule.images=3.2e2", "schedule.images=320.0", "schedule.images=3_20"])
def test_whole_numbers_may_be_written_with_an_exponent(line: str, workshop: Workshop, tmp_path: Path) -> None:
    done = workshop.run(Bad([line], []).command(tmp_path))
    assert done.code == 0, done.err

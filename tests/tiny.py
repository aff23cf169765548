"""A run of 20 steps on points that takes a fraction of a second."""

from __future__ import annotations

TINY = (
    "model=mlp", "dataset=ring", "metric=[modes]", "extractor=none", "logger=none", "schedule.batch_size=16",
    "schedule.images=320", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]",
    "model.generator.latent_dim=2",
    "log.every=64", "samples.every=160", "samples.count=9", "evaluation.every=160", "evaluation.samples=64",
    "evaluation.batch_size=32", "checkpoint.every=80", "dataset.train_points=200", "dataset.held_out_points=100",
)  # fmt: skip

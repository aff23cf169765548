"""Toy distributions, sampled afresh from a seed: Gaussians on a ring or a grid, a spiral; on the line, two to prove."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Modes, Spec, Split
from gan_experiments.errors import UserError


def ring(train_points: int = 100_000, held_out_points: int = 10_000, seed: int = 0) -> Dataset:
    """Eight Gaussians of std 0.01 on the unit circle, at angles 2 pi i / 8; labels are the Gaussians' numbers."""
    angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    centres = torch.stack((angles.cos(), angles.sin()), 1)
    return mixture("ring", Modes(centres.float(), 0.01), train_points, held_out_points, seed)


def grid(train_points: int = 100_000, held_out_points: int = 10_000, seed: int = 0) -> Dataset:
    """25 Gaussians of std 0.05 at {-4, -2, 0, 2, 4}^2 (PacGAN, section 4.1); labels are the Gaussians' numbers."""
    ticks = torch.arange(-4.0, 5.0, 2.0)
    return mixture("grid", Modes(torch.cartesian_prod(ticks, ticks), 0.05), train_points, held_out_points, seed)


def swiss_roll(
    train_points: int = 100_000, held_out_points: int = 10_000, noise: float = 0.25, seed: int = 0
) -> Dataset:
    """A spiral, t (cos t, sin t) / 7.5 with t uniform in [1.5 pi, 4.5 pi]; noise of std `noise` before the division."""

    def draw(points: int, split: str) -> Split:
        random = seeding.generator(_checked(points, seed, "swiss_roll"), "swiss_roll", split)
        t = 1.5 * math.pi * (1 + 2 * torch.rand(points, generator=random))
        spiral = torch.stack((t * t.cos(), t * t.sin()), 1)
        return Split((spiral + noise * torch.randn(points, 2, generator=random)) / 7.5)

    train, held_out = draw(train_points, "train"), draw(held_out_points, "held_out")
    return Dataset("swiss_roll", Spec((2,)), train, held_out, f"noise {noise}, divided by 7.5")


def point(train_points: int = 1_000, held_out_points: int = 1_000, at: float = 0.0) -> Dataset:
    """All mass at one point of the line, as in Dirac-GAN (Mescheder et al. 2018, definition 2.1)."""
    train, held_out = (
        Split(torch.full((_checked(points, points, "point"), 1), float(at)))
        for points in (train_points, held_out_points)
    )
    return Dataset("point", Spec((1,)), train, held_out)


def gaussian(train_points: int = 100_000, held_out_points: int = 10_000, std: float = 1.0, seed: int = 0) -> Dataset:
    """N(0, std^2) on the line, the data of the linear-quadratic GAN (Nagarajan & Kolter 2017)."""
    if std <= 0:
        raise UserError(f"dataset gaussian: std={std} must be positive; dataset=point puts all mass at one point")

    def draw(points: int, split: str) -> Split:
        random = seeding.generator(_checked(points, seed, "gaussian"), "gaussian", split)
        return Split(std * torch.randn(points, 1, generator=random))

    return Dataset("gaussian", Spec((1,)), draw(train_points, "train"), draw(held_out_points, "held_out"))


def mixture(name: str, modes: Modes, train_points: int, held_out_points: int, seed: int) -> Dataset:
    """A data set drawn from equally likely Gaussians; the held-out part is a second, independent draw."""

    def draw(points: int, split: str) -> Split:
        random = seeding.generator(_checked(points, seed, name), name, split)
        labels = torch.randint(len(modes.centres), (points,), generator=random)
        noise: Tensor = modes.std * torch.randn(points, modes.centres.shape[1], generator=random)
        return Split(modes.centres[labels] + noise, labels)

    classes = tuple(f"mode {number}" for number in range(len(modes.centres)))
    spec = Spec((modes.centres.shape[1],), classes)
    return Dataset(name, spec, draw(train_points, "train"), draw(held_out_points, "held_out"), modes=modes)


def _checked(points: int, seed: int, name: str) -> int:
    """The seed, once `points` is known to be positive."""
    if points < 1:
        raise UserError(f"dataset {name}: train_points and held_out_points must be at least 1, got {points}")
    return seed

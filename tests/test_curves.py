"""Curves against their formulas."""

from __future__ import annotations

import math

import pytest

from gan_experiments.curves import Constant, Cosine, Curve, Linear, Proportional, WarmUp, as_curve, within
from gan_experiments.errors import UserError


def test_cosine_start_middle_end_and_beyond() -> None:
    curve = Cosine(2e-4, 5e-5, over=1000)
    assert curve(0, 1) == 2e-4
    assert curve(500, 1) == pytest.approx((2e-4 + 5e-5) / 2)
    assert curve(250, 1) == pytest.approx(2e-4 + (5e-5 - 2e-4) * (1 - math.cos(math.pi / 4)) / 2)
    assert curve(1000, 1) == curve(2000, 1) == pytest.approx(5e-5)


def test_linear_begins_after_and_lasts_the_run_by_default() -> None:
    curve = Linear(1.0, 0.0, after=200)
    assert [curve(t, 1000) for t in (0, 200, 600, 1000, 1200)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_warm_up_scales_another_curve() -> None:
    curve = WarmUp(Linear(1.0, 0.0), over=100)
    assert curve(0, 1000) == 0.0
    assert curve(50, 1000) == pytest.approx(0.5 * 0.95)
    assert curve(500, 1000) == pytest.approx(0.5)


def test_constant_and_numbers() -> None:
    assert as_curve(3)(5, 10) == 3.0
    assert Constant(0.25)(0, 1) == 0.25
    same = Linear(0, 1)
    assert as_curve(same) is same


@pytest.mark.parametrize("wrong", [lambda: Linear(0, 1, over=0), lambda: Cosine(0, 1, after=-1), lambda: as_curve("x")])  # type: ignore[arg-type]
def test_nonsense_is_refused(wrong: object) -> None:
    with pytest.raises(UserError):
        wrong()  # type: ignore[operator]


def test_proportional_grows_with_images_up_to_its_limit() -> None:
    curve = Proportional(0.05, 10000)
    assert [curve(images, 1) for images in (0, 1000, 200_000, 10**6)] == [0, 50, 10000, 10000]
    with pytest.raises(UserError, match="share=0"):
        Proportional(0, 10)


@pytest.mark.parametrize(
    ("curve", "bounds"),
    [
        (Constant(0.5), (0.5, 0.5)),
        (Linear(1.0, 0.25, after=10), (0.25, 1.0)),
        (Cosine(0.0, 0.3), (0.0, 0.3)),
        (Proportional(0.05, 0.7), (0.0, 0.7)),
        (WarmUp(Linear(0.5, 0.25), 10), (0.0, 0.5)),
    ],
)
def test_bounds_hold_all_values(curve: Curve, bounds: tuple[float, float]) -> None:
    values = [curve(images, 1000) for images in range(0, 1001, 10)]
    assert curve.bounds() == bounds == (min(values), pytest.approx(max(values), rel=0.01))


def test_a_range_is_seen_to_before_the_run() -> None:
    assert within(1, "share", 0, 1, above=True)(0, 1) == 1 and within(Linear(0, 5), "std").bounds() == (0, 5)
    for value, said in (
        (0, r"^share=0 must be within \(0, 1\]"),
        (1.5, "share=1.5"),
        (math.nan, "share=nan"),
        (Linear(1, 0, over=5), r"share, a curve, goes to 0 and must be within \(0, 1\]"),
        (WarmUp(0.5, 5), "goes to 0"),
    ):
        with pytest.raises(UserError, match=said):
            within(value, "share", 0, 1, above=True)
    for wrong in (-1, math.inf, math.nan):
        with pytest.raises(UserError, match="weight=.* must be finite and at least 0"):
            within(wrong, "weight")

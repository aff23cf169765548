"""The generator's gradient under the two losses of Goodfellow et al. 2014 while only the discriminator learns."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_experiments.errors import UserError
from gan_experiments.objectives.adversarial import Minimax, NonSaturating

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import vanishing_gradients as script  # noqa: E402

SMALL = (
    "model.generator.hidden=[32]",
    "model.discriminator.hidden=[64]",
    "schedule.batch_size=64",
    "runtime.threads=1",
)


def test_on_dirac_gan_the_ratio_is_the_odds_of_real() -> None:
    """sigmoid(f) against sigmoid(-f) times |psi|: their ratio is exp(f), at f = psi theta."""
    overrides = ["model=dirac", "dataset=point", "runtime.threads=1"]
    _, _, trainer = script.make_trainers(overrides)
    for psi, theta in [(-1.0, 1.0), (-3.0, 2.0), (0.5, 2.0)]:
        with torch.no_grad():
            trainer.game.discriminator.psi.fill_(psi)  # type: ignore[union-attr, operator]
            trainer.game.generator.theta.fill_(theta)  # type: ignore[union-attr, operator]
        point = script.measure(trainer, 0)
        assert point.minimax == pytest.approx(abs(psi) / (1 + math.exp(-psi * theta)), rel=1e-5)
        assert point.minimax / point.nonsaturating == pytest.approx(math.exp(psi * theta), rel=1e-5)
        assert point.accuracy == (0.5 if psi < 0 else 0)  # the data's logit is 0, never real


def test_only_the_minimax_gradient_vanishes_while_the_discriminator_improves() -> None:
    found = script.experiment(SMALL, warm_up=0, steps=100, points=8)
    first, last = found[0], found[-1]
    assert (first.step, last.step) == (0, 100) and len(found) >= 8
    assert first.discriminator_loss == pytest.approx(math.log(4), abs=0.3) and last.discriminator_loss < 0.05
    assert last.accuracy > 0.98 > first.accuracy
    assert first.minimax / first.nonsaturating == pytest.approx(1, abs=0.5)
    assert last.minimax / last.nonsaturating < 0.02
    assert last.nonsaturating > first.nonsaturating


def test_the_generator_is_kept_and_the_discriminator_is_new() -> None:
    _, first, second = script.make_trainers(SMALL)
    before = [p.clone() for p in second.game.generator.parameters()]  # type: ignore[union-attr]
    second.move(second.sides["discriminator"])
    norms = [script.gradient_norm(second, Minimax()).item() for _ in range(2)]
    assert norms[0] == norms[1] > 0
    assert script.gradient_norm(second, NonSaturating()).item() != norms[0]
    after = list(second.game.generator.parameters())  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(parameter.requires_grad for parameter in second.game.parameters())
    moved, fresh = (list(t.game.discriminator.parameters()) for t in (second, first))  # type: ignore[union-attr]
    assert not all(torch.equal(a, b) for a, b in zip(moved, fresh, strict=True))


def test_script_writes_figure_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["vanishing_gradients", "--out", str(tmp_path), "--warm-up", "2", "--steps", "5", *SMALL]
    monkeypatch.setattr(sys, "argv", line)
    script.main()
    assert capsys.readouterr().out.startswith("discriminator's loss 1.")
    points = json.loads((tmp_path / "vanishing_gradients.json").read_text())
    assert [point["step"] for point in points] == [0, 1, 2, 3, 4, 5]
    assert set(points[0]) == {"step", "discriminator_loss", "accuracy", "minimax", "nonsaturating"}
    with Image.open(tmp_path / "vanishing_gradients.png") as image:
        assert image.size == (1100, 420)


@pytest.mark.parametrize(
    ("line", "said"),
    [(["--steps", "0"], "--steps 0: at least 0 and 1"), (["dataset=rong"], "rong"), (["model.widht=3"], "widht")],
)
def test_mistakes(line: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vanishing_gradients", "--out", str(tmp_path), *line])
    with pytest.raises(UserError, match=said):
        script.main()

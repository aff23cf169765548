"""What is found in YAML files before torch is imported: tricks that contradict or don't fit, and the help on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from gan_experiments.composition import check_composition
from gan_experiments.config import conf_dir, register
from gan_experiments.errors import UserError
from gan_experiments.usage import help_text, sentence

CONF = Path(conf_dir())
TRICKS = sorted(path.stem for path in (CONF / "trick").glob("*.yaml") if path.stem != "none")


def check(*overrides: str, folder: Path | None = None) -> DictConfig:
    GlobalHydra.instance().clear()
    register()
    search = [f"hydra.searchpath=[file://{folder}]"] if folder else []
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = compose("config", ["run.dir=unused", *search, *overrides], return_hydra_config=True)
    check_composition(config, config.hydra)
    return config


@pytest.mark.parametrize("loss", ["hinge", "wasserstein", "relativistic", "fgan_kl"])
def test_smoothing_needs_a_loss_with_targets(loss: str) -> None:
    with pytest.raises(UserError) as error:
        check("trick=[label_smoothing]", f"loss={loss}")
    assert f"trick label_smoothing sets loss.real_target, which loss={loss} does not have" in str(error.value)
    assert str(error.value).endswith("loss=boundary_seeking, least_squares, minimax, nonsaturating would fit")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", ["nonsaturating", "minimax", "boundary_seeking", "least_squares"])
def test_smoothing_fits_losses_with_targets(loss: str) -> None:
    check("trick=[label_smoothing,ema]", f"loss={loss}")


def test_tricks_that_set_a_key_differently_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trick").mkdir()
    text = "# @package _global_\n# stronger: more smoothing\ntrick: {stronger: {about: x}}\nloss: {real_target: 0.7}\n"
    (tmp_path / "trick" / "stronger.yaml").write_text(text)
    with pytest.raises(
        UserError, match="label_smoothing and trick stronger contradict: loss.real_target is 0.9 or 0.7"
    ):
        check("trick=[label_smoothing,stronger]", folder=tmp_path)
    (tmp_path / "trick" / "stronger.yaml").write_text(text.replace("0.7", "0.9"))
    check("trick=[label_smoothing,stronger]", folder=tmp_path)


def test_the_help_says_that_a_trick_takes_the_place_of_the_schedules_moves() -> None:
    config = check("schedule=wgan", "trick=[discriminator_steps]")
    assert config.schedule.discriminator.moves == 2
    assert "in place of the schedule's" in sentence(CONF / "trick" / "discriminator_steps.yaml")


def test_a_trick_changes_what_an_experiment_sets_and_the_command_line_has_the_last_word() -> None:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = compose("config", ["run.dir=unused", "experiment=mixtures", "trick=[ema]"])
        assert config.schedule.ema.half_life.limit == 10000  # 5000 in the experiment
        config = compose("config", ["run.dir=unused", "experiment=mixtures", "trick=[ema]", "schedule.ema.half_life=7"])
        assert config.schedule.ema.half_life == 7


def test_what_an_experiment_brings_can_be_left_out_or_replaced() -> None:
    assert list(check("experiment=grid").regularizer) == ["r1", "r2"]
    assert list(check("experiment=grid", "regularizer=none").regularizer or {}) == []
    assert list(check("experiment=grid", "regularizer=[r2]").regularizer) == ["r2"]
    replaced = check("experiment=grid", "loss=wasserstein", "regularizer=gradient_penalty")
    assert list(replaced.regularizer) == ["gradient_penalty"]
    with pytest.raises(UserError, match=r"experiment=grid: regularizer\.r1 is not an option"):
        check("experiment=grid", "regularizer=none", "regularizer.r1.weight=3")


@pytest.mark.parametrize("group", ["regularizer", "metric"])
@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_can_do_without(experiment: str, group: str) -> None:
    left = check(f"experiment={experiment}", f"{group}=none")[group] or {}
    assert all("_target_" in node for node in left.values())  # a conditioning's objective stays


def test_a_misspelt_option_inside_an_experiment_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /regularizer: [r1]\nregularizer: {r3: {weight: 1.0}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"experiment=mine: regularizer\.r3 is not an option; there is r1"):
        check("experiment=mine", folder=tmp_path)
    with pytest.raises(UserError, match=r"experiment=mine: regularizer\.r3 is not an option; there is r2"):
        check("experiment=mine", "regularizer=[r2]", folder=tmp_path)


@pytest.mark.parametrize("trick", TRICKS)
def test_every_trick_has_a_line_in_the_help_and_a_sentence_of_its_own(trick: str) -> None:
    said = sentence(CONF / "trick" / f"{trick}.yaml")
    assert len(said.split()) > 4 and said in " ".join(help_text([CONF], ["--help", "trick"]).split())
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = compose("config", ["run.dir=unused", f"trick=[{trick}]"])
    assert list(config.trick) == [trick]
    assert config.trick[trick].about.endswith((")", "."))

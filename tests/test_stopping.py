"""A request to stop that comes while the observers look at a step is answered, and saved, with the next step."""

from __future__ import annotations

from gan_experiments.trainer import Observer, Trainer
from given import trainer_of


class Late(Observer):
    """Asks to stop after the others have looked at the third step."""

    def after_step(self, trainer: Trainer) -> None:
        trainer.stop_requested |= trainer.step_count == 3


class Saving(Observer):
    """Notes the steps at which a checkpoint is due."""

    def __init__(self) -> None:
        self.saved: list[int] = []

    def after_step(self, trainer: Trainer) -> None:
        if trainer.ending:
            self.saved.append(trainer.step_count)


def test_no_request_is_lost_between_the_checkpoint_and_the_end_of_the_step() -> None:
    trainer, saving = trainer_of("points", []), Saving()
    trainer.observers += [saving, Late()]
    trainer.run()
    assert (trainer.step_count, saving.saved) == (4, [4])


def test_a_request_before_the_first_step_takes_one_and_saves() -> None:
    trainer, saving = trainer_of("points", []), Saving()
    trainer.observers.append(saving)
    trainer.stop_requested = True
    trainer.run()
    assert (trainer.step_count, saving.saved) == (1, [1])

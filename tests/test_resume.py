"""Continuing a run: bit for bit, after a signal, after a kill, and only where it is the same run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from gan_experiments import checkpoint
from gan_experiments.checkpoint import Checkpoints, differences
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.experiment import run
from gan_experiments.logging.records import read_records
from gan_experiments.logging.status import State, read_status
from gan_experiments.signals import Interrupted
from gan_experiments.trainer import Trainer
from tiny import TINY

COSINE = "{_target_: gan_experiments.curves.Cosine, start: 1e-2, end: 0.0}"
POINTS = [
    *TINY, "schedule.ema.half_life=100", "regularizer=[r1,weight_clipping]", "regularizer.r1.every=3",
    f"schedule.discriminator.optimizer.lr={COSINE}",
]  # fmt: skip
IMAGES = [
    *(line for line in TINY if not line.startswith(("model", "dataset", "metric", "extractor", "evaluation.batch"))),
    "model=dcgan", "model.generator.width=2", "model.discriminator.width=2", "model.discriminator.norm=batch",
    "metric=[fid]", "extractor=pixels", "dataset=fashion10k", "dataset.flip=true", "loss=wasserstein",
    "regularizer=[gradient_penalty,r2]", "schedule.discriminator.moves=2", "schedule.ema.buffers=average",
    "evaluation.every=100000", "runtime.precision=bfloat16", "evaluation.batch_size=64",
]  # fmt: skip
IMAGES = [line for line in IMAGES if not line.startswith(("metric", "extractor"))] + ["metric=none", "extractor=none"]
TRICKS = [
    *TINY, "model.generator.batch_norm=true", "regularizer=[lecam]", "trick.apa.length=500", "trick.unrolled.steps=1",
    "trick=[packing,replay,apa,minibatch_discrimination,historical_averaging,feature_matching,unrolled,instance_noise,top_k]",
    "trick.replay.size=24",
]  # fmt: skip
IMAGE_TRICKS = [
    *(line for line in IMAGES if not line.startswith(("loss", "regularizer", "schedule.disc"))), "schedule.images=160",
    "trick=[ada,virtual_batch_norm,noise_injection,self_attention,spectral_norm,train_with_labels,diffaugment]",
    "trick.ada.length=500", "trick.virtual_batch_norm.size=4",
]  # fmt: skip
RECIPES = {"points": POINTS, "images": IMAGES, "tricks": TRICKS, "image tricks": IMAGE_TRICKS}


def final(directory: Path) -> dict[str, object]:
    """Everything of the last checkpoint, flattened to comparable leaves."""
    saved = Checkpoints(directory / "checkpoints").load_latest()
    assert saved is not None
    leaves: dict[str, object] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                walk(child, f"{name}/{key}")
        elif isinstance(value, list | tuple):
            for place, child in enumerate(value):
                walk(child, f"{name}/{place}")
        else:
            leaves[name] = value

    walk(saved["state"], "")
    return leaves


def equal(first: dict[str, object], second: dict[str, object]) -> list[str]:
    """Names of leaves that differ."""
    assert first.keys() == second.keys()
    return [
        name for name, value in first.items()
        if not (torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name])  # type: ignore[arg-type]
    ]  # fmt: skip


def measured(directory: Path) -> list[tuple[object, ...]]:
    """All records without what depends on the clock."""
    clock = ("progress/images_per_second",)
    return [
        (r["kind"], r["images"], json.dumps({
            key: {k: v for k, v in value.items() if k != "seconds"} if isinstance(value, dict) else value
            for key, value in r["values"].items() if key not in clock}, sort_keys=True))
        for r in read_records(directory / "metrics.jsonl")
    ]  # fmt: skip


def signal_after(steps: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """Send this process a signal in the middle of training."""
    step = Trainer.step

    def wrapped(self: Trainer) -> None:
        if self.step_count == steps - 1:
            os.kill(os.getpid(), number)
        step(self)

    monkeypatch.setattr(Trainer, "step", wrapped)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("steps", [3, 7])
def test_k_and_k_steps_equal_two_k_bit_for_bit(
    recipe: str, steps: int, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = RECIPES[recipe]
    whole = composed(*lines, f"run.dir={tmp_path / 'whole'}")
    run(whole, tmp_path / "whole")
    parts = composed(*lines, f"run.dir={tmp_path / 'parts'}")
    with monkeypatch.context() as patch:
        signal_after(steps, patch)
        with pytest.raises(
            Interrupted, match=f"SIGTERM at .* images; to continue: .*run.dir={tmp_path / 'parts'}"
        ) as stop:
            run(parts, tmp_path / "parts")
    assert stop.value.code == 143
    status = read_status(tmp_path / "parts" / "status.json")
    assert status is not None and status.state is State.STOPPED
    run(parts, tmp_path / "parts")
    assert equal(final(tmp_path / "whole"), final(tmp_path / "parts")) == []
    assert measured(tmp_path / "whole") == measured(tmp_path / "parts")
    one, two = (checkpoint.load(tmp_path / name / "generator.pt", "generator") for name in ("whole", "parts"))
    assert all(torch.equal(a, b) for x, y in zip(one["generator"], two["generator"], strict=True)
               for a, b in zip(x.values(), y.values(), strict=True))  # fmt: skip
    pictures = sorted(path.name for path in (tmp_path / "whole" / "samples").iterdir())
    assert pictures and all((tmp_path / "parts" / "samples" / name).read_bytes()
                            == (tmp_path / "whole" / "samples" / name).read_bytes() for name in pictures)  # fmt: skip


def test_killed_at_a_random_moment_it_continues_to_the_same_weights(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    lines = [*POINTS, "schedule.images=16000", "checkpoint.every=1600", "samples.every=100000", "evaluation.every=8000"]
    run(composed(*lines), tmp_path / "whole")
    killed = tmp_path / "killed"
    given = {line.partition("=")[0]: line for line in lines}.values()  # each key once, as the command line wants it
    command = [sys.executable, "-m", "gan_experiments.cli", *given, f"run.data={tmp_path / 'data'}",
               "runtime.threads=1", f"run.dir={killed}"]  # fmt: skip
    kills = 0
    for attempt in range(20):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=tmp_path)
        deadline = time.monotonic() + 120
        while attempt < 2 and time.monotonic() < deadline and process.poll() is None:
            written = len(list((killed / "checkpoints").glob("step-*.pt")))
            if written:
                time.sleep(random.uniform(0.0, 0.15))
                process.kill()
                break
            time.sleep(0.02)
        _, said = process.communicate(timeout=120)
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said.decode()
    assert kills >= 1
    assert equal(final(tmp_path / "whole"), final(killed)) == []
    assert measured(tmp_path / "whole") == measured(killed)


def test_a_complete_run_is_reported_not_repeated(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TINY)
    first = run(config, tmp_path / "run")
    assert first is not None
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("trained again"))
    assert run(config, tmp_path / "run") == first


def test_another_configuration_is_refused_with_the_differing_keys(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    run(composed(*TINY), tmp_path / "run")
    before = (tmp_path / "run" / "status.json").read_bytes()
    changed = [line for line in TINY if not line.startswith("schedule.batch")]
    with pytest.raises(UserError, match=r"schedule.batch_size: 16 -> 32; .*loss._target_: .*Hinge"):
        run(composed(*changed, "schedule.batch_size=32", "loss=hinge"), tmp_path / "run")
    assert (tmp_path / "run" / "status.json").read_bytes() == before
    free = [line for line in TINY if line != "logger=none"]
    assert run(composed(*free, "logger=wandb", "run.debug=true"), tmp_path / "run") is not None


def test_other_data_are_refused(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TINY)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_after(3, patch)
        run(config, tmp_path / "run")
    monkeypatch.setattr("gan_experiments.data.toy.RING_STD", 0.5, raising=False)
    monkeypatch.setattr("gan_experiments.data.base.Dataset.fingerprint", "another")
    with pytest.raises(UserError, match="data set has changed"):
        run(config, tmp_path / "run")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "picture", "other kind"])
def test_a_bad_checkpoint_is_one_line(
    damage: str, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TINY)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_after(12, patch)
        run(config, tmp_path / "run")
    path = Checkpoints(tmp_path / "run" / "checkpoints").paths()[-1]
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "foreign":
        torch.save({"model": torch.zeros(3)}, path)
    elif damage == "picture":
        path.write_bytes(b"\x89PNG" * 100)
    else:
        path.write_bytes((tmp_path / "run" / "generator.pt").read_bytes())
    with pytest.raises(UserError, match=path.name) as error:
        run(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    path.unlink()  # as the message says: the checkpoint before serves
    run(config, tmp_path / "run")


def test_loading_never_executes_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"format": 1, "kind": "gan-experiments/checkpoint", "state": Evil()}, tmp_path / "step-1.pt")
    with pytest.raises(UserError, match="step-1.pt"):
        checkpoint.load(tmp_path / "step-1.pt", "checkpoint")
    assert not (tmp_path / "executed").exists()


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def poisoned(self: Trainer) -> None:
        if self.step_count == 12:
            with torch.no_grad():
                self.players[1].parameters[0].fill_(float("nan"))
        step(self)

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(NonFinite, match="became NaN or infinite at step 12"):
        run(composed(*TINY), tmp_path / "run")
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None and status.state is State.FAILED and "step 12" in status.reason
    saved = Checkpoints(tmp_path / "run" / "checkpoints").load_latest()
    assert saved is not None and saved["step"] == 10
    assert all(value.isfinite().all() for value in saved["state"]["game"].values())


def test_two_processes_cannot_share_a_directory(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    from gan_experiments.rundir import RunDirectory

    with RunDirectory(tmp_path / "run", {}, 2), pytest.raises(UserError, match="another process"):
        run(composed(*TINY), tmp_path / "run")


def test_differences_name_nested_keys() -> None:
    old, new = {"a": {"b": 1, "c": [1]}, "d": None}, {"a": {"b": 2, "c": [1]}, "e": "x"}
    assert differences(old, new) == ["a.b: 1 -> 2", 'd: null -> "(absent)"', 'e: "(absent)" -> "x"']


def test_old_checkpoints_go_when_new_ones_are_complete(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=2)
    facts = {"config": "{}", "images": 1, "data": "d", "runtime": "r", "state": {}, "records": 0}
    for step in (1, 2, 30):
        kept.save(step, facts | {"step": step})
    assert [path.name for path in kept.paths()] == ["step-000000002.pt", "step-000000030.pt"]
    latest = kept.load_latest()
    assert latest is not None and latest["step"] == 30


def test_a_failed_start_can_be_mended_in_the_same_directory(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no such score"):
        run(composed(*TINY, "run.objective=fid"), tmp_path / "run")
    assert run(composed(*TINY), tmp_path / "run") is not None
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(UserError, match="has records but no config.json"):
        run(composed(*TINY), tmp_path / "run")


def test_raw_weights_are_scored_beside_the_averaged_ones_on_request(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    run(composed(*TINY, "evaluation.raw=true", "schedule.ema.half_life=1000"), tmp_path / "run")
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None
    averaged, raw = status.scores["reverse_kl"], status.scores["raw_reverse_kl"]
    assert (averaged["weights"], raw["weights"]) == ("ema", "raw")
    assert averaged["value"] != raw["value"] and averaged["floor"] == raw["floor"]

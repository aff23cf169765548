"""scripts/sample.py beyond plain samples, and scripts/evaluate.py of truncated generators, as processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from processes import Done, gan_train, run_in_turn, script

COMMON = (
    "dataset=fashion10k", "schedule.images=null", "schedule.steps=2", "schedule.batch_size=8", "metric=none",
    "logger=none", "samples.count=4", "runtime.precision=float32", "evaluation.batch_size=16",
)  # fmt: skip
SMALL = ("channel_base=128", "channel_max=4", "mapping_layers=2", "conditional=true")
RUNS = {
    "style": (*COMMON, "model=stylegan2", "model.generator.latent_dim=8", "model.generator.style_dim=8",
              *(f"model.{player}.{line}" for player in ("generator", "discriminator") for line in SMALL)),
    "norms": (*COMMON, "model=dcgan", "model.generator.width=2", "model.discriminator.width=2",
              "conditioning=[batch_norm,projection]"),
}  # fmt: skip
SHEETS = {
    "rows": ["norms", "--classes", "--count", 3],
    "mix": ["style", "--mix", 2, 3, "--psi", 0.7, "--cutoff", 3],
    "walk": ["norms", "--interpolate", "slerp", "--count", 2, "--steps", 4, "--stops", 3],
    "plane": ["style", "--interpolate", "lerp", "--plane", "--steps", 2, "--out", "plane.png"],
    "gif": ["style", "--interpolate", "slerp", "--steps", 3, "--stops", 2, "--count", 2, "--out", "walk.gif"],
    "files": ["norms", "--classes", "Bag", 0, "--count", 3, "--out", "files"],
    "psi 0": ["style", "--count", 4, "--psi", 0, "--out", "psi 0.png"],
    "centres": ["style", "--count", 4, "--psi", 0, "--centres", 2, "--out", "centres.png"],
    "limit": ["norms", "--count", 4, "--truncation", 0.5, "--statistics", "standing", "--out", "limit.png"],
}
MISTAKES = {
    "no styles": (["norms", "--psi", 0.5], "has no styles"),
    "no class": (["norms", "--classes", "Hat"], "no class Hat; there is T-shirt/top, Trouser,"),
    "both": (["style", "--psi", 0.5, "--truncation", 1], "give one"),
    "film": (["norms", "--out", "a.gif"], "a.gif: films are of walks"),
    "folder": (["norms", "--mix", 1, 1, "--out", "folder"], "folder: a sheet is a .png"),
    "jpeg": (["norms", "--out", "a.jpg"], "a.jpg: files end in .png, .gif or .mp4"),
    "no plane": (["norms", "--plane"], "--plane is a way to interpolate"),
    "batches": (["norms", "--classes", "--statistics", "batch"], "--statistics batch: images of a sheet"),
}
EVALUATIONS = {
    "standing": ["norms", "--statistics", "standing", "evaluation.standing_batches=2"],
    "limit": ["norms", "--truncation", 0.5], "psi": ["style", "--psi", 0.5, "--cutoff", 4],
}  # fmt: skip


class Drawn:
    """What the commands said, and the files they wrote."""

    def __init__(self, home: Path) -> None:
        self.home = home
        trained = run_in_turn(
            {name: gan_train(*lines, f"run.dir={name}", cwd=home) for name, lines in RUNS.items()}, home
        )
        assert all(done.code == 0 for done in trained.values()), trained
        lines = SHEETS | {name: line for name, (line, _) in MISTAKES.items()}
        commands = {name: script("sample.py", *map(str, line), cwd=home) for name, line in lines.items()}
        scores = ["--metric", "fid", "--extractor", "pixels", "--samples", 32, "--json"]
        for name, line in EVALUATIONS.items():
            words = map(str, [*line, *scores, f"{name}.json", "evaluation.reals=40"])
            commands[f"evaluate {name}"] = script("evaluate.py", *words, cwd=home)
        words = map(str, ["files", "--dataset", "fashion10k", "--psi", 0.5])
        commands["evaluate stored"] = script("evaluate.py", *words, cwd=home)
        commands["evaluate misfit"] = script("evaluate.py", "norms", "--psi", "0.5", "--metric", "fast", cwd=home)
        self.done: dict[str, Done] = run_in_turn(commands, home)

    def picture(self, name: str, rows: int, columns: int) -> NDArray[np.uint8]:
        """The cells (rows, columns, 32, 32) of a sheet."""
        with Image.open(self.home / name) as image:
            sheet = np.asarray(image)
        factor = -(-800 // (33 * columns + 1))
        assert sheet.shape == (factor * (33 * rows + 1), factor * (33 * columns + 1)), sheet.shape
        sheet = sheet[::factor, ::factor]
        cells = sheet[1:, 1:].reshape(rows, 33, columns, 33)[:, :-1, :, :-1]
        return cells.transpose(0, 2, 1, 3)

    def record(self, name: str) -> dict[str, Any]:
        """The score that evaluate.py wrote."""
        done = self.done[f"evaluate {name}"]
        assert done.code == 0, done.err
        ((score,),) = (row["scores"].values() for row in json.loads((self.home / f"{name}.json").read_text()))
        return score  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(tmp_path_factory.mktemp("modes"))


def test_all_say_what_they_made(drawn: Drawn) -> None:
    said = {name: drawn.done[name] for name in SHEETS}
    assert all(done.code == 0 and done.err == "" for done in said.values()), said
    end = "ema weights after 16 images\n"
    assert {name: done.out for name, done in said.items()} == {
        "rows": f"norms/samples/classes-seed0.png: 10 classes, {end}",
        "mix": "style/samples/mix-seed0.png: styles of 2 images mixed with those of 3, psi 0.7 towards the mean style "
        f"in the first 3 layers, {end}",
        "walk": f"norms/samples/walk-seed0.png: 2 walks past 3 latents, {end}",
        "plane": f"plane.png: a plane of 3x3 images, {end}",
        "gif": f"walk.gif: 2 walks past 2 latents, {end}",
        "files": f"files: 3 samples of 2 classes each, {end}",
        "psi 0": f"psi 0.png: 4 samples, psi 0 towards the mean style, {end}",
        "centres": f"centres.png: 4 samples, psi 0 towards the nearest of 2 centres, {end}",
        "limit": f"limit.png: 4 samples, latents within 0.5, standing statistics, {end}",
    }


def test_pictures_have_their_rows_and_columns(drawn: Drawn) -> None:
    drawn.picture("norms/samples/classes-seed0.png", 10, 3)
    drawn.picture("style/samples/mix-seed0.png", 7, 4)
    drawn.picture("norms/samples/walk-seed0.png", 2, 9)
    drawn.picture("plane.png", 3, 3)
    with Image.open(drawn.home / "walk.gif") as film:
        assert (film.n_frames, film.size) == (6, (67, 34))  # type: ignore[attr-defined]
    written = sorted(str(path.relative_to(drawn.home / "files")) for path in (drawn.home / "files").rglob("*.png"))
    assert written == [f"{name}/{row:06d}.png" for name in ("Bag", "T-shirt-top") for row in range(3)]


def test_psi_0_leaves_one_image(drawn: Drawn) -> None:
    same = drawn.picture("psi 0.png", 2, 2).astype(int)
    assert np.abs(same - same[0, 0]).max() <= 1
    for name in ("centres", "limit"):
        drawn.picture(f"{name}.png", 2, 2)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str, drawn: Drawn) -> None:
    done, said = drawn.done[name], MISTAKES[name][1]
    assert done.code == 1 and done.out == "" and len(done.lines) == 1, done
    assert done.err.startswith("sample.py: ") and said in done.err, done.err


def test_scores_say_how_samples_were_made(drawn: Drawn) -> None:
    facts = {name: drawn.record(name) for name in EVALUATIONS}
    assert {name: (score["batch_norm"], score["truncation"]) for name, score in facts.items()} == {
        "standing": ("standing", "none"),
        "limit": ("running", "latents within 0.5"),
        "psi": ("none", "psi 0.5 towards the mean style in the first 4 layers"),
    }
    assert facts["standing"]["value"] != facts["limit"]["value"]
    head = drawn.done["evaluate standing"].out.splitlines()[0]
    assert head == "norms: ema weights after 16 images, standing statistics"
    assert drawn.done["evaluate limit"].out.startswith("norms: ema weights after 16 images, latents within 0.5\n")


def test_evaluation_refuses_what_does_not_fit(drawn: Drawn) -> None:
    stored, misfit = drawn.done["evaluate stored"], drawn.done["evaluate misfit"]
    assert stored.err.startswith(
        "evaluate.py: files: holds images; --raw, --best, --checkpoints and --draws are for runs, and so"
    )
    assert misfit.err.startswith("evaluate.py: psi 0.5: this NoiseGame has no styles")
    assert (stored.code, misfit.code, len(stored.lines), len(misfit.lines)) == (1, 1, 1, 1)

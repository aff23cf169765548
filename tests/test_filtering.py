"""Self-filtering: planted outliers are dropped, distances in closed form, and what is written can be trained on."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_experiments.analysis import filtering
from gan_experiments.analysis.filtering import FeatureDistance, Filtered, Recipe, self_filter, write_filtered
from gan_experiments.config import build_named, composed
from gan_experiments.data.base import Dataset, Split, to_unit
from gan_experiments.data.folder import folder
from gan_experiments.data.mnist import fashion10k
from gan_experiments.errors import UserError
from gan_experiments.metrics.extractors import Extractor, Features
from given import FLOAT32
from processes import run_in_turn, script

TROUSER, BAG = 1, 8
QUICK = Recipe(keep=0.9, steps=25, batch_size=16, width=4, code_dim=4)


@pytest.fixture(scope="module")
def clothes() -> Dataset:
    return fashion10k()


def of_class(data: Dataset, number: int, count: int) -> Tensor:
    assert data.train.labels is not None
    return data.train.samples[(data.train.labels == number).nonzero()[:count, 0]]


def planted(data: Dataset, outliers: Tensor) -> tuple[Split, Tensor]:
    """180 trousers and these 20, shuffled; which ones are outliers."""
    samples = torch.cat([of_class(data, TROUSER, 180), outliers])
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    return Split(samples[order]), order >= 180


def noise(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 256, (20, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def filtered(data: Dataset, split: Split, recipe: Recipe = QUICK, name: str = "pixels") -> Filtered:
    (source,) = build_named(composed(f"extractor=[{name}]").extractor, "extractor").values()
    return self_filter(data.spec, split, FeatureDistance(source.build(data)), recipe, FLOAT32)


@pytest.mark.parametrize(("kind", "steps", "share"), [("noise", 100, 0.9), ("bags", 400, 0.4)])
def test_outliers_are_over_represented_among_the_dropped(kind: str, steps: int, share: float, clothes: Dataset) -> None:
    outliers = noise(clothes.spec.shape) if kind == "noise" else of_class(clothes, BAG, 20)
    split, strange = planted(clothes, outliers)
    found = filtered(clothes, split, Recipe(steps=steps, batch_size=32, width=8, code_dim=8, seed=1), "classifier")
    dropped = torch.ones(200, dtype=torch.bool)
    dropped[found.kept] = False
    assert (len(found.kept), int(dropped.sum())) == (180, 20) and torch.equal(found.kept, found.kept.sort().values)
    # By chance 10 % of the dropped would be outliers.
    assert float(strange[dropped].float().mean()) >= share
    assert found.distances[dropped].min() >= found.distances[found.kept].max()
    assert found.distances[strange].median() > 2 * found.distances[~strange].median()
    picture = filtering.extremes(found.autoencoder, split, found.distances, FLOAT32)
    assert picture.shape == (4 * 33 + 1, 10 * 33 + 1, 1)
    worst = int(found.distances.argmax())
    assert np.array_equal(
        picture[2 * 33 + 1 : 2 * 33 + 33, 9 * 33 + 1 : 9 * 33 + 33, 0], split.samples[worst, 0].numpy()
    )


def test_filtering_follows_from_its_seed(clothes: Dataset) -> None:
    split, _ = planted(clothes, noise(clothes.spec.shape))
    first, again, other = (filtered(clothes, split, replace(QUICK, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first.distances, again.distances) and first.error == again.error
    assert not torch.equal(first.distances, other.distances)


def test_training_lowers_the_error_and_distances_are_those_of_reconstructions(clothes: Dataset) -> None:
    split, _ = planted(clothes, of_class(clothes, BAG, 20))
    short, long = (filtered(clothes, split, Recipe(steps=n, batch_size=32, width=4, code_dim=8)) for n in (2, 100))
    assert long.error < 0.5 * short.error
    images = split.take(torch.tensor([4, 150])).samples
    again = filtering.reconstruct(long.autoencoder, images, FLOAT32)
    assert again.shape == images.shape and again.abs().max() <= 1
    bytes_of = [((x + 1) * 127.5).round().flatten(1).double() for x in (images, again)]
    x, y = (rows / rows.norm(dim=1, keepdim=True) for rows in bytes_of)
    torch.testing.assert_close(long.distances[[4, 150]], (x - y).square().sum(1), rtol=1e-4, atol=1e-6)


class Corners(Extractor):
    """Two pixels as features."""

    def __init__(self) -> None:
        super().__init__("corners", "0" * 64, 2, 0, "none")

    def extract(self, images: Tensor) -> Features:
        return Features(images[:, 0, 0, :2].float())


def test_feature_distances_in_closed_form() -> None:
    distance = FeatureDistance(Corners())
    assert (distance.name, distance.sha256) == ("features of corners", "0" * 64)
    first = torch.tensor([[[[10, 0]]], [[[30, 40]]], [[[5, 0]]], [[[7, 7]]]], dtype=torch.uint8)
    second = torch.tensor([[[[20, 0]]], [[[0, 50]]], [[[0, 9]]], [[[14, 14]]]], dtype=torch.uint8)
    # Directions (1, 0) twice; (.6, .8) and (0, 1); perpendicular; the same.
    torch.testing.assert_close(distance(to_unit(first), to_unit(second)), torch.tensor([0, 0.4, 2, 0]))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"keep": 0.0}, "keep 0: expected a share"), ({"keep": 1.1}, "keep 1.1"), ({"steps": 0}, "expected 1 or more"),
     ({"batch_size": 1}, "batches of 2 or more"), ({"code_dim": 0}, "code 0")],
)  # fmt: skip
def test_impossible_recipes_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Recipe(**values)  # type: ignore[arg-type]


def test_what_is_kept_is_a_data_set(clothes: Dataset, tmp_path: Path) -> None:
    split = Split(clothes.train.samples[:12], clothes.train.labels[:12] % 2)  # type: ignore[index]
    names, values = filtering.names_of(split, ("a/b", "c")), torch.tensor([float(row) for row in range(12, 0, -1)])
    kept = torch.arange(2, 12)
    write_filtered(tmp_path, names, values, kept, filtering.pictures(split))
    again = folder(str(tmp_path / "kept"), str(tmp_path / "cache"), size=32, channels=1, held_out=0.2)
    assert again.spec.classes == ("a-b", "c") and len(again.train) + len(again.held_out) == 10
    with Image.open(tmp_path / "kept" / names[5]) as image:
        assert np.array_equal(np.asarray(image), split.samples[5, 0].numpy())
    rows = list(csv.DictReader((tmp_path / "distances.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == names[::-1] and [row["distance"] for row in rows][:2] == ["1", "2"]
    assert [row["kept"] for row in rows] == ["yes"] * 10 + ["no"] * 2
    with pytest.raises(UserError, match="kept: holds files already; give another --out, or delete it"):
        write_filtered(tmp_path, names, values, kept, filtering.pictures(split))


def test_the_script(clothes: Dataset, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number, kind in enumerate((TROUSER, BAG)):
        (photos / "ab"[number]).mkdir(parents=True)
        for row, image in enumerate(of_class(clothes, kind, 10)):
            Image.fromarray(image[0].numpy()).save(photos / "ab"[number] / f"{row} x.png")
    (photos / "a" / "broken.png").write_bytes(b"no picture")
    np.savez(tmp_path / "some.npz", images=of_class(clothes, BAG, 9).numpy())
    quick = ["--steps", "3", "--batch-size", "4", "--width", "4", "--code-dim", "4", "--keep", "0.75"]
    pixels = ["--distance", "pixels", "--out"]
    done = run_in_turn(
        {
            "photos": script("filter_dataset.py", "photos", *pixels, "one", *quick, cwd=tmp_path),
            "npz": script("filter_dataset.py", "some.npz", *pixels, "two", *quick, cwd=tmp_path),
            "again": script("filter_dataset.py", "photos", *pixels, "one", *quick, cwd=tmp_path),
            "none": script("filter_dataset.py", "some.npz", "--out", "three", *quick, cwd=tmp_path),
            "points": script("filter_dataset.py", "--dataset", "ring", *pixels, "3", cwd=tmp_path),
            "both": script("filter_dataset.py", "photos", "--dataset", "ring", "--out", "four", cwd=tmp_path),
            "help": script("filter_dataset.py", "--help", cwd=tmp_path),
        },
        tmp_path,
    )  # fmt: skip
    assert done["photos"].out == "one/kept: 15 of 20 images, by features of pixels\n", done["photos"].err
    copies = sorted(path.relative_to(tmp_path / "one" / "kept") for path in (tmp_path / "one" / "kept").rglob("*.png"))
    assert len(copies) == 15 and {path.parts[0] for path in copies} == {"a", "b"}
    assert all((tmp_path / "one" / "kept" / p).read_bytes() == (photos / p).read_bytes() for p in copies)
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert (report["keep"], report["images"], report["kept"], report["distance"]) == (
        0.75,
        20,
        15,
        "features of pixels",
    )
    rows = list(csv.DictReader((tmp_path / "one" / "distances.csv").read_text().splitlines()))
    assert {row["name"] for row in rows if row["kept"] == "yes"} == {str(path) for path in copies}
    assert report["largest_kept"] == pytest.approx(float(rows[14]["distance"]), rel=1e-4)
    with Image.open(tmp_path / "one" / "extremes.png") as image:
        assert image.size == (3 * 331, 3 * 133)
    assert done["npz"].code == 0 and len(list((tmp_path / "two" / "kept").iterdir())) == 7
    assert done["again"].err.startswith("filter_dataset.py: one/kept: holds files already")
    assert done["none"].err.startswith(
        "filter_dataset.py: some.npz has no classes to train a feature network on; choose"
    )
    assert done["points"].code == 1 and len(done["points"].lines) == 1 and "images" in done["points"].err
    assert done["both"].code == 2 and "give a folder or .npz of images, or --dataset NAME" in done["both"].err
    assert done["help"].out.startswith("usage: ")

"""Folders of images: decoding, labels, held-out parts, and the cache."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_experiments.data import picture_cache, pictures
from gan_experiments.data.base import Dataset, to_bytes
from gan_experiments.data.folder import folder
from gan_experiments.errors import UserError


def paint(path: Path, array: np.ndarray, **options: object) -> Path:
    """Save an array as an image and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 images: grey, RGBA, wide and tall ones, nested, three of them broken; and files that are no images."""
    root = tmp_path_factory.mktemp("mixed") / "pictures"
    shapes = [(20, 20), (24, 30, 3), (30, 24, 3), (16, 16, 4), (40, 20, 3)]
    for number in range(497):
        name = ("cats", "dogs/small", "dogs/large/old")[number % 3] + f"/{number:03}.{('png', 'JPG')[number % 5 == 1]}"
        paint(root / name, noise(*shapes[number % 5], seed=number))
    (root / "cats" / "broken.png").write_bytes(b"")
    (root / "dogs" / "text.jpg").write_text("not an image")
    whole = (root / "cats" / "006.JPG").read_bytes()
    (root / "cats" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "cats" / "notes.txt").write_text("left out")
    (root / "cats" / "._006.JPG").write_bytes(b"left out")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a.png").write_bytes(b"left out")
    return root


def load(root: Path, cache: Path, **options: object) -> Dataset:
    """The folder at 16x16."""
    return folder(str(root), str(cache), **{"size": 16, **options})  # type: ignore[arg-type]


def test_mixed_folder_is_read_whole(mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load(mixed, tmp_path)
    assert dataset.spec.shape == (3, 16, 16) and dataset.spec.classes == ("cats", "dogs")
    assert (len(dataset.train), len(dataset.held_out)) == (447, 50)
    assert sum("left out" in message for message in caplog.messages) == 3
    for broken in ("cats/broken.png", "dogs/text.jpg", "cats/cut.jpg"):
        assert sum(str(mixed / broken) in message for message in caplog.messages) == 1
    names = json.loads(next(tmp_path.glob("*.json")).read_text())["names"]
    for split in (dataset.train, dataset.held_out):
        assert split.labels is not None and split.rows is not None
        batch = split.take(torch.arange(len(split)))
        for row, label, sample in zip(split.rows.tolist(), split.labels.tolist(), to_bytes(batch.samples), strict=True):
            assert names[row].startswith(dataset.spec.classes[label] + "/")
            np.testing.assert_array_equal(sample.numpy(), pictures.load(mixed / names[row], 16, 3)[0])
    assert not set(dataset.train.rows.tolist()) & set(dataset.held_out.rows.tolist())  # type: ignore[union-attr]


def test_cache_is_used_again_without_decoding(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = load(mixed, tmp_path)

    def fail(*arguments: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(picture_cache.PictureCache, "_build", fail)
    caplog.clear()
    again = load(mixed, tmp_path)
    assert again.fingerprint == first.fingerprint and torch.equal(again.train.samples, first.train.samples)
    assert any("3 unreadable images left out" in message for message in caplog.messages)
    load(mixed, tmp_path, held_out=0.3, labels=False)
    with pytest.raises(AssertionError, match="decoded again"):
        load(mixed, tmp_path, channels=1)


def test_broken_images_can_be_refused(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cats/broken.png: can't be read .*on_broken=skip"):
        load(mixed, tmp_path, on_broken="refuse")
    assert not list(tmp_path.iterdir())
    load(mixed, tmp_path)
    with pytest.raises(UserError, match="cats/broken.png"):
        load(mixed, tmp_path, on_broken="refuse")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Six images in no folder."""
    for number in range(6):
        paint(tmp_path / "small" / f"{number}.png", noise(16, 16, 3, seed=number))
    return tmp_path / "small"


def test_pixels_of_the_asked_size_come_through_unchanged(small: Path, tmp_path: Path) -> None:
    dataset = load(small, tmp_path / "cache")
    assert dataset.spec.classes == () and dataset.train.labels is None
    stored = {image.permute(1, 2, 0).numpy().tobytes() for image in dataset.train.samples}
    assert stored == {noise(16, 16, 3, seed=number).tobytes() for number in range(6)}
    assert dataset.name == "small" and "Lanczos to 16x16" in dataset.transform


def test_a_changed_tree_makes_a_new_cache(small: Path, tmp_path: Path) -> None:
    before = load(small, tmp_path / "cache").fingerprint
    paint(small / "6.png", noise(16, 16, 3, seed=6))
    assert len(load(small, tmp_path / "cache").train.samples) == 7
    os.utime(small / "0.png", ns=(1, 1))
    load(small, tmp_path / "cache")
    (small / "6.png").unlink()
    paint(small / "0.png", noise(16, 16, 3, seed=99))
    assert load(small, tmp_path / "cache").fingerprint != before
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4


@pytest.mark.parametrize("damage", ["truncated", "changed", "no sidecar", "cut sidecar", "odd sidecar"])
def test_a_damaged_cache_is_made_again(small: Path, tmp_path: Path, damage: str) -> None:
    before = load(small, tmp_path / "cache")
    pixels = before.train.samples.clone()
    array, sidecar = next((tmp_path / "cache").glob("*.npy")), next((tmp_path / "cache").glob("*.json"))
    content = array.read_bytes()
    replaced = array.with_suffix(".new")  # a new file, because the old one is still mapped
    replaced.write_bytes(content[:-100] if damage == "truncated" else content[:-100] + bytes(100))
    if damage in ("truncated", "changed"):
        replaced.replace(array)
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text(sidecar.read_text()[:-9] if damage == "cut sidecar" else "[1]")
    again = load(small, tmp_path / "cache")
    assert torch.equal(again.train.samples, pixels) and again.fingerprint == before.fingerprint


def test_a_copied_cache_is_checked_and_kept(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(small, tmp_path / "cache").fingerprint
    os.utime(next((tmp_path / "cache").glob("*.npy")), ns=(5, 5))
    monkeypatch.setattr(picture_cache.PictureCache, "_build", lambda self: pytest.fail("decoded again"))
    assert load(small, tmp_path / "cache").fingerprint == before
    monkeypatch.setattr(picture_cache.PictureCache, "_checksum", lambda self, count: pytest.fail("read again"))
    assert load(small, tmp_path / "cache").fingerprint == before


BUILD = """
import sys, time
from pathlib import Path
from gan_experiments.data.picture_cache import PictureCache
cache = PictureCache(Path(sys.argv[1]), Path(sys.argv[2]), 16, 3, False)
print("ready", flush=True)
sys.stdin.readline()
array, sidecar = cache.open()
print(array.sum(), sidecar.sha256)
"""


def test_processes_may_build_the_same_cache_at_once(small: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", BUILD, str(small), str(cache)]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        builders = [
            stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)) for _ in range(3)
        ]
        for builder in builders:
            assert builder.stdout is not None and builder.stdout.readline() == "ready\n"
        for builder in builders:
            assert builder.stdin is not None
            builder.stdin.write("go\n")
            builder.stdin.flush()
        answers = {builder.communicate()[0] for builder in builders}
    dataset = load(small, cache)
    assert len(answers) == 1 and answers.pop().split()[0] == str(int(dataset.train.samples.sum()))
    assert len(list(cache.iterdir())) == 2


def test_abandoned_files_are_removed_and_living_ones_kept(small: Path, tmp_path: Path) -> None:
    load(small, tmp_path / "cache")
    array = next((tmp_path / "cache").glob("*.npy"))
    array.with_suffix(".json").unlink()
    old, young = (array.with_name(f"{array.name}.{number}-ab.tmp") for number in (1, 2))
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    load(small, tmp_path / "cache")
    assert young.exists() and not old.exists()


def test_small_images_are_enlarged_with_a_warning(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(small / "big.png", noise(32, 40, 3))
    load(small, tmp_path / "cache", size=20)
    assert any("6 of 7 images are smaller than 20x20" in message for message in caplog.messages)


def test_labels_follow_sub_folders_of_both_parts(tmp_path: Path) -> None:
    root = tmp_path / "animals"
    for part, count in (("train", 4), ("test", 2)):
        for label in ("cat", "dog"):
            for number in range(count):
                paint(root / part / label / f"{number}.png", noise(16, 16, 3, seed=number))
    dataset = load(root, tmp_path / "cache", held_out_folder="test", train_folder="train")
    assert dataset.spec.classes == ("cat", "dog")
    assert dataset.train.labels is not None and dataset.train.labels.tolist() == [0] * 4 + [1] * 4
    assert dataset.held_out.labels is not None and dataset.held_out.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match="share no class folder; set dataset.train_folder"):
        load(root, tmp_path / "cache", held_out_folder="test")
    with pytest.raises(UserError, match="held_out_folder=val"):
        load(root, tmp_path / "cache", held_out_folder="val")
    with pytest.raises(UserError, match="overlap"):
        load(root, tmp_path / "cache", held_out_folder="train/cat", train_folder="train")
    with pytest.raises(UserError, match="held_out_folder is not"):
        load(root, tmp_path / "cache", train_folder="train")


def test_one_class_folder_means_no_labels_and_a_loose_image_is_left_out(tmp_path: Path) -> None:
    for number in range(4):
        paint(tmp_path / "a" / "only" / f"{number}.png", noise(16, 16, 3))
        paint(tmp_path / "b" / f"class{number % 2}" / f"{number}.png", noise(16, 16, 3))
    paint(tmp_path / "b" / "loose.png", noise(16, 16, 3))
    assert load(tmp_path / "a", tmp_path / "cache").spec.classes == ()
    labelled, all_of_them = (load(tmp_path / "b", tmp_path / "cache", labels=labels) for labels in (True, False))
    assert labelled.spec.classes == ("class0", "class1") and len(labelled.train) + len(labelled.held_out) == 4
    assert all_of_them.spec.classes == () and len(all_of_them.train) + len(all_of_them.held_out) == 5


def test_held_out_share_is_seeded_and_stable_when_images_are_added(small: Path, tmp_path: Path) -> None:
    def held_out_names(**options: object) -> set[str]:
        dataset = load(small, tmp_path / "cache", held_out=0.25, **options)
        names = json.loads(max((tmp_path / "cache").glob("*.json"), key=os.path.getmtime).read_text())["names"]
        assert dataset.held_out.rows is not None
        return {names[row] for row in dataset.held_out.rows.tolist()}

    for number in range(6, 40):
        paint(small / f"{number}.png", noise(16, 16, 3, seed=number))
    before = held_out_names()
    assert before == held_out_names() and len(before) == 10
    assert before != held_out_names(seed=1)
    for number in range(40, 44):
        paint(small / f"{number}.png", noise(16, 16, 3, seed=number))
    assert len(before - held_out_names()) <= 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "dataset.size is 0"),
        ({"channels": 4}, "dataset.channels is 4; expected 1"),
        ({"held_out": 0.0}, "dataset.held_out is 0.0; expected a share"),
        ({"held_out": 1.0}, "dataset.held_out is 1.0"),
        ({"on_broken": "ignore"}, "expected skip or refuse"),
    ],
)
def test_options_out_of_range_are_refused(small: Path, tmp_path: Path, options: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UserError, match=message):
        load(small, tmp_path / "cache", **options)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_bytes(b"")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"bad")
    cases = {
        "missing": "no such folder",
        "empty": r"no images .*\.png",
        "file.png": "is a file",
        "bad": "none of its 1",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            load(tmp_path / name, tmp_path / "cache")
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_an_unwritable_cache_is_one_line(small: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"taken/cache: can't write the image cache .*dataset.cache"):
        load(small, tmp_path / "taken" / "cache")


def test_a_link_up_the_tree_ends_and_a_dangling_one_is_reported(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (small / "loop").symlink_to(small)
    (small / "gone.png").symlink_to(small / "nowhere.png")
    assert len(load(small, tmp_path / "cache").train.samples) == 6
    assert any("gone.png" in message for message in caplog.messages)


def test_info_names_counts(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load(small, tmp_path / "cache")
    assert any("5 images to train on, 1 held out, 0 classes" in message for message in caplog.messages)


def test_centre_square_is_kept(tmp_path: Path) -> None:
    wide = noise(8, 20, 3)
    np.testing.assert_array_equal(
        pictures.load(paint(tmp_path / "w.png", wide), 8, 3)[0], wide[:, 6:14].transpose(2, 0, 1)
    )
    tall = noise(20, 8, 3)
    np.testing.assert_array_equal(
        pictures.load(paint(tmp_path / "t.png", tall), 8, 3)[0], tall[6:14].transpose(2, 0, 1)
    )


def test_reducing_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    small = pictures.load(paint(tmp_path / "s.png", stripes), 8, 1)[0]
    assert np.abs(small.astype(int) - 128).max() <= 16


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    colour = np.zeros((4, 4, 4), np.uint8)
    colour[..., 0] = 200
    colour[:2, :, 3] = 255
    colour[2, :, 3] = 51
    loaded = pictures.load(paint(tmp_path / "a.png", colour), 4, 3)[0]
    assert loaded[:, 0, 0].tolist() == [200, 0, 0]
    assert loaded[:, 3, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(loaded[:, 2, 0], [0.2 * 200 + 0.8 * 255, 204, 204], atol=1)


def test_palettes_keep_their_colours_and_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "p.png", transparency=0)
    loaded = pictures.load(tmp_path / "p.png", 4, 3)[0]
    assert loaded[:, 0, 0].tolist() == [255, 255, 255] and loaded[:, 2, 2].tolist() == [10, 20, 30]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 257], [65280, 65535]], np.uint16)
    for suffix in ("png", "tif"):
        loaded = pictures.load(paint(tmp_path / f"a.{suffix}", levels), 2, 1)[0]
        assert loaded.tolist() == [[[0, 1], [254, 255]]]


def test_grey_and_colour_convert_into_each_other(tmp_path: Path) -> None:
    grey = paint(tmp_path / "g.png", noise(4, 4))
    np.testing.assert_array_equal(pictures.load(grey, 4, 3)[0], np.stack([noise(4, 4)] * 3))
    red = paint(tmp_path / "r.png", np.full((4, 4, 3), (255, 0, 0), np.uint8))
    assert set(pictures.load(red, 4, 1)[0].ravel().tolist()) == {76}  # 0.299 of 255, ITU-R 601


def test_images_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the image must be turned 90 degrees clockwise
    path = paint(tmp_path / "e.png", noise(6, 6, 3), exif=exif)
    np.testing.assert_array_equal(pictures.load(path, 6, 3)[0], np.rot90(noise(6, 6, 3), -1).transpose(2, 0, 1))


def test_a_single_picture_without_a_known_range_is_refused(tmp_path: Path) -> None:
    path = paint(tmp_path / "f.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="no known range"):
        pictures.load(path, 4, 1)

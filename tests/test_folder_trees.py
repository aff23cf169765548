"""Trees of images as people have them: numbered classes, splits, strays, links, odd names, odd depths, odd files."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_experiments.analysis.class_names import class_places, label_places
from gan_experiments.analysis.targets import Archive, Folder, stored
from gan_experiments.data import caches, picture_cache, pictures
from gan_experiments.data.base import Dataset, Spec
from gan_experiments.data.depth import Unreadable
from gan_experiments.data.folder import folder
from gan_experiments.data.natural import natural_key
from gan_experiments.data.npz import load_npz
from gan_experiments.data.sampler import Sampler
from gan_experiments.data.tree import find
from gan_experiments.errors import UserError
from gan_experiments.sheets import class_numbers
from image_trees import draw, each, noise


def load(root: Path, **options: object) -> Dataset:
    """The folder at 8x8, cached beside it."""
    return folder(str(root), str(root.parent / "cache"), **{"size": 8, **options})  # type: ignore[arg-type]


def counts(dataset: Dataset) -> tuple[int, int, tuple[str, ...]]:
    """Numbers of training and held-out images, and the classes."""
    return len(dataset.train), len(dataset.held_out), dataset.spec.classes


@pytest.mark.parametrize(
    "ordered",
    [
        ["2", "10"],
        ["-10", "-1", "0", "7"],
        ["01", "1", "002", "10"],
        ["1", "1.5", "1e3", "1e10", "2", "10"],
        ["2", "2a", "10", "B", "a", "a2", "a10", "a10b"],
        ["img9.png", "img10.png"],
        ["a/2/x.png", "a/10/b.png", "a10/1.png"],
        ["1/z", "2/a", "10/a"],
        ["2024-01-02", "2024-01-10", "2024-10-01"],
        ["9", "9²", "²"],
    ],
)
def test_names_sort_as_people_count(ordered: list[str]) -> None:
    assert sorted(reversed(ordered), key=natural_key) == ordered


def test_numbered_folders_and_an_array_of_the_same_data_have_the_same_labels(tmp_path: Path) -> None:
    images = {label: [noise(8, 8, 3, seed=10 * label + k) for k in range(6)] for label in range(12)}
    for label, pictured in images.items():
        for number, image in enumerate(pictured):
            path = tmp_path / "folders" / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    np.savez(tmp_path / "a.npz", images=np.stack(sum(images.values(), [])), labels=np.repeat(np.arange(12), 6))
    found = {}
    for name in ("folders", "a.npz"):
        dataset = stored(tmp_path / name).dataset((3, 8, 8), tmp_path / "cache", 0.0, True)
        assert dataset.spec.classes == tuple(map(str, range(12))) and dataset.train.labels is not None
        pixels = [bytes(image.numpy().tobytes()) for image in dataset.train.raw(0, len(dataset.train))]
        found[name] = dict(zip(pixels, dataset.train.labels.tolist(), strict=True))
    assert len(found["folders"]) == 72 and found["folders"] == found["a.npz"]


@pytest.mark.parametrize(
    ("folders", "classes", "places"),
    [
        ({"dog", "cat"}, ["cat", "dog"], {"cat": 0, "dog": 1}),
        ({"T-shirt-top"}, ["T-shirt/top", "Coat"], {"T-shirt-top": 0}),
        ({"0", "1"}, ["cat", "dog"], {"0": 0, "1": 1}),
        ({"00", "01"}, ["cat", "dog"], {"00": 0, "01": 1}),
        ({"1", "3"}, ["1", "2", "3"], {"1": 0, "3": 2}),
        ({"01", "03"}, ["1", "2", "3"], {"01": 0, "03": 2}),
        ({"-1", "5"}, ["-1", "5", "7"], {"-1": 0, "5": 1}),
        ({"01", "1"}, ["01", "1", "2"], {"01": 0, "1": 1}),
    ],
)
def test_folders_mean_classes_by_name(folders: set[str], classes: list[str], places: dict[str, int]) -> None:
    found = class_places(Path("x"), folders, classes)
    assert {name: found[name] for name in folders} == places


@pytest.mark.parametrize(
    ("folders", "classes", "message"),
    [
        ({"cat", "wolf"}, ["cat", "dog"], "folder wolf isn't a class of the reference, which has cat, dog"),
        ({"0", "1", "2"}, ["1", "2", "3"], "folder 0 isn't a class"),
        ({"0", "2"}, ["cat", "dog"], "folder 2 isn't a class"),
        ({"01", "1"}, ["1", "2"], "isn't a class"),
        ({"Cat"}, ["cat", "dog"], "folder Cat isn't"),
    ],
)
def test_folders_of_other_names_are_refused(folders: set[str], classes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_places(Path("x"), folders, classes)


def test_labels_of_an_array_mean_classes_by_name(tmp_path: Path) -> None:
    labels, where = torch.tensor([2, 1, 2]), tmp_path / "x.npz"
    assert label_places(where, labels, None, ["a", "b", "c"]).tolist() == [2, 1, 2]
    assert label_places(where, labels, None, ["1", "2", "3"]).tolist() == [1, 0, 1]
    assert label_places(where, labels, ["x", "dog", "cat"], ["cat", "dog"]).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match="class wolf isn't a class"):
        label_places(where, labels, ["x", "wolf", "cat"], ["cat", "dog"])
    with pytest.raises(UserError, match="labels run from 1 to 2, but the reference has 2 classes, 7, 8"):
        label_places(where, labels, None, ["7", "8"])
    np.savez(where, images=noise(3, 8, 8, 3), labels=labels.numpy(), classes=np.array(["x", "dog", "cat"]))
    assert load_npz(where).classes == ("x", "dog", "cat")
    split = Archive(where).split((3, 8, 8), tmp_path, ("cat", "dog"))
    assert split.labels is not None and split.labels.tolist() == [0, 1, 0]
    assert Archive(where).dataset((3, 8, 8), tmp_path, 0.0, True).spec.classes == ("x", "dog", "cat")
    for wrong in (np.array(["x", "x", "y"]), np.array(["x", "y"]), np.arange(3)):
        np.savez(where, images=noise(3, 8, 8, 3), labels=labels.numpy(), classes=wrong)
        with pytest.raises(UserError, match=r"x.npz: (classes are|labels run)"):
            load_npz(where)


SPLITS = {
    "train val": (each("train", "val"), (3, 3, ()), "train/ trained on .* val/ held out"),
    "capitals": (each("Train/a", "Train/b", "VAL_set/a", "VAL_set/b"), (6, 6, ("a", "b")), "VAL_set/ held out"),
    "three": (each("train/a", "train/b", "val/b", "test/a"), (6, 3, ("a", "b")), "val/ held out .*not used: test/"),
    "train test": (each("training/2", "training/10", "test/2"), (6, 3, ("2", "10")), "test/ held out"),
    "years": (each("train2017", "val2017", "test2017"), (3, 3, ()), "val2017/ held out .* test2017/"),
    "class first": (each("a/train", "a/test", "b/train", "b/test"), (6, 6, ("a", "b")), "train/ trained on"),
    "in a folder": (each("x/train/a", "x/train/b", "x/val/a"), (6, 3, ("a", "b")), "train/ trained on"),
    "flat and test": ([*each("test"), "1.png", "2.png"], (2, 3, ()), "the images in no folder trained on"),
    "alone": (each("train/a", "train/b", count=5), (9, 1, ("a", "b")), "train/ is called like a part"),
    "alone, test": (each("test/a", "test/b", count=5), (9, 1, ("a", "b")), "test/ is called like a part"),
    "beside": ([*each("train", "validation", "more"), "x.png"], (3, 3, ()), "not used: the images .* and more/"),
    "new class": (each("train/a", "train/b", "val/b", "val/c"), (6, 6, ("a", "b", "c")), "1 of 3 classes have no"),
    "a vehicle": (each("train", "plane", "bus"), (8, 1, ("bus", "plane", "train")), ""),
    "a class, maybe": (each("a", "b", "val"), (8, 1, ("a", "b", "val")), "val/ is called .*held_out_folder=val"),
    "wrapped": (each("x/a", "x/b"), (5, 1, ()), "the 2 folders in it are no classes; dataset.path=.*/x makes them so"),
    "one stray": ([*each("a", "b", count=5), "c.png"], (9, 1, ("a", "b")), "1 image .*c.png.* left out"),
    "mostly stray": (["a/1.png", "b/1.png", "1.png", "2.png", "3.png"], (4, 1, ()), "3 images .*there are no classes"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_folders_called_like_a_split_are_one(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names, expected, said = SPLITS[name]
    dataset = load(draw(tmp_path / "photos", names))
    assert counts(dataset) == expected
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == (1 if said and name != "new class" else 2 if said else 0), warned
    if said:
        assert any(re.search(said, line) for line in warned), warned


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (each("val", "test"), "val/ and test/ are called like parts to hold out, with none to train on"),
        (each("a", "b", "val/a", "val/b"), "val/ .*holds folders called like those beside it .*held_out_folder=val"),
        (each("train/a", "train/b", "val"), "no image held out lies in a class folder"),
    ],
)
def test_splits_that_cannot_be_told_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(draw(tmp_path / "photos", names))


def test_options_outvote_what_folders_are_called(tmp_path: Path) -> None:
    root = draw(tmp_path / "photos", each("train/a", "train/b", "val/a", "val/b", "test/a", "test/b", count=2))
    test = load(root, train_folder="train", held_out_folder="test")
    assert counts(test) == (4, 4, ("a", "b")) and test.fingerprint != load(root).fingerprint


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, other = draw(tmp_path / "photos", each("a")), draw(tmp_path / "other", ["1.png"])
    (root / "b").symlink_to(root / "a")
    (root / "c").symlink_to(other)
    (other / "up").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    assert find(root) == [*each("a", "b"), "c/1.png"]
    assert load(root).spec.classes == ("a", "b", "c")
    assert any("c/up" in line and "a link back up the tree" in line for line in caplog.messages)


def test_files_passed_over_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = draw(tmp_path / "photos", each("a"))
    for name in ("x.heic", "a/y.HEIC", "notes.txt", "bare", ".hidden.png", ".DS_Store", "Thumbs.db", "a/._0.png"):
        (root / name).write_bytes(b"x")
    draw(root / "__MACOSX", ["0.png"]), draw(root / "@eaDir", ["thumb.jpg"])
    os.mkfifo(root / "pipe.png")
    assert len(load(root).train.samples) == 3
    (line,) = [line for line in caplog.messages if "passed over" in line]
    assert "photos: 6 files passed over: 4 no image by the end of its name (.heic 2, " in line, line
    assert "the first a/y.HEIC" in line and "1 hidden, the first .hidden.png" in line and "pipe.png" in line


@pytest.mark.parametrize("ending", ["jfif", "avif", "jpe", "JPG", "gif", "tif", "TIFF", "jp2", "tga", "pgm", "webp"])
def test_images_of_all_usual_endings_are_read(ending: str, tmp_path: Path) -> None:
    kind = {"jfif": "JPEG", "jpe": "JPEG", "jpg": "JPEG", "tiff": "TIFF"}.get(ending.lower())
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(noise(8, 8, seed=number)).save(tmp_path / "photos" / f"{number}.{ending}", kind)
    assert counts(load(tmp_path / "photos", channels=1)) == (2, 1, ())


def test_names_that_are_not_utf8_are_read_and_shown_escaped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "photos"
    for label in (b"caf\xe9", b"th\xe9"):
        (tmp_path / "photos" / os.fsdecode(label)).mkdir(parents=True)
        for number in range(3):
            content = io.BytesIO()
            Image.fromarray(noise(8, 8, 3, seed=number)).save(content, "PNG")
            (root / os.fsdecode(label) / os.fsdecode(b"\xff%d.png" % number)).write_bytes(content.getvalue())
    (root / os.fsdecode(b"th\xe9") / os.fsdecode(b"broken\xfe.png")).write_bytes(b"x")
    for _ in range(2):
        dataset = load(root)
        assert counts(dataset) == (5, 1, ("caf\\xe9", "th\\xe9")) and len(dataset.fingerprint) == 64
        assert any("broken\\xfe.png" in line for line in caplog.messages)
        caplog.clear()


def deep(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits a channel, (h, w, 3), which Pillow can't write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("colour", [False, True])
def test_few_bits_in_sixteen_fill_the_range(
    bits: int, colour: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, top = tmp_path / "photos", 2**bits - 1
    root.mkdir()
    values = np.linspace(0, top, 64).round().astype(np.uint16).reshape(8, 8)
    for number, part in enumerate((values, values // 2)):  # the second alone would be of fewer bits
        shaped = np.stack([part] * 3, 2) if colour else part
        deep(root / f"{number}.png", shaped) if colour else Image.fromarray(shaped).save(root / f"{number}.png")
    dataset = load(root, channels=3 if colour else 1, held_out=0.5)
    first, second = dataset.train.samples[:, 0].double().numpy()
    np.testing.assert_allclose(first, values * (255 / top), atol=1)
    np.testing.assert_allclose(second, values // 2 * (255 / top), atol=1)
    said = [line for line in caplog.messages if f"{bits} bits" in line]
    assert len(said) == (0 if bits == 16 else 1) and (f"{bits} bits" in dataset.transform) == (bits != 16)
    assert load(root, channels=3 if colour else 1).transform == dataset.transform  # from the cache


@pytest.mark.parametrize(
    ("low", "high", "kind", "black", "white"),
    [
        (0.0, 1.0, np.float32, 0, 1),
        (-1.0, 1.0, np.float32, -1, 1),
        (0.0, 255.0, np.float32, 0, 255),
        (0, 4000, np.int32, 0, 4095),
    ],
)
def test_numbers_of_other_kinds_are_scaled(
    low: float, high: float, kind: type, black: float, white: float, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    values = np.linspace(low, high, 64).reshape(8, 8).astype(kind)
    for number in range(2):
        Image.fromarray(values).save(tmp_path / "photos" / f"{number}.tif")
    found = load(tmp_path / "photos", channels=1).train.samples[0, 0].double().numpy()
    np.testing.assert_allclose(found, (values.astype(float) - black) * 255 / (white - black), atol=0.51)


@pytest.mark.parametrize("values", [(-1024, 3000), (0, 200_000)])
def test_numbers_without_black_and_white_are_refused(values: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(np.array([values], np.int32)).save(tmp_path / "photos" / f"{number}.tif")
    with pytest.raises(UserError, match=rf"pixels from {values[0]} to .* no known black and white; save them with 8"):
        load(tmp_path / "photos", channels=1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "HSV", "YCbCr"])
def test_every_kind_of_pixel_becomes_bytes(mode: str) -> None:
    image = Image.new(mode, (4, 4))
    assert pictures.flatten(image, "L").mode == "L" and pictures.flatten(image, "RGB").mode == "RGB"


def test_label_maps_are_said_to_be_dark(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(noise(8, 8, seed=number, high=20)).save(tmp_path / "photos" / f"{number}.png")
    for _ in range(2):
        load(tmp_path / "photos", channels=1)
        assert sum("nearly black, none brighter than 19 of 255" in line for line in caplog.messages) == 1
        caplog.clear()


IGNORED = ("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
"""As the program does outside of tests."""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three good images beside one over the decoder's limit, empty, cut and broken ones, and one with broken EXIF."""
    root = draw(tmp_path / "photos", [f"{number}.png" for number in range(3)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many
    Image.new("1", (50, 50)).save(root / "bomb.png")
    Image.new("1", (40, 40)).save(root / "large.png")
    (root / "empty.png").write_bytes(b"")
    (root / "cut.png").write_bytes((root / "0.png").read_bytes()[:90])
    Image.fromarray(noise(8, 8, 3)).save(root / "exif.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01garbage")
    return root


@pytest.mark.filterwarnings(*IGNORED)
def test_odd_pictures_are_left_out_by_name_and_broken_notes_are_not(
    odd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(load(odd).train.samples) == 5
    lost = [line for line in caplog.messages if "left out" in line]
    assert sorted(line.split(": left out")[0].rsplit("/", 1)[1] for line in lost) == [
        "bomb.png",
        "cut.png",
        "empty.png",
    ]
    sizes, coloured = Folder(odd).survey
    assert sizes == {(8, 8): 5, (40, 40): 1} and coloured
    with pytest.raises(UserError, match="images of 2 sizes"):
        _ = Folder(odd).sides


@pytest.mark.filterwarnings(*IGNORED)
def test_a_broken_exif_block_is_upright(odd: Path) -> None:
    with pictures.opened(odd / "exif.jpg") as image:
        assert pictures.orientation(image) == 1 and pictures.seen_size(image) == (8, 8)
    with pytest.raises(Unreadable), pictures.opened(odd / "empty.png"):
        pass


@pytest.mark.parametrize("name", ["[a]*?", "n" * 250, " a, b = $x 'q' \"d\" ~", "**", "ü" * 120])
def test_folders_may_be_called_anything(name: str, tmp_path: Path) -> None:
    root = draw(tmp_path / name, ["1.png", "2.png"])
    for _ in range(2):
        assert len(load(root).train) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_home_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    draw(tmp_path / "photos", ["1.png", "2.png"])
    assert len(folder("~/photos", "~/cache", size=8).train) == 1 and (tmp_path / "cache").is_dir()


def test_a_file_changed_in_place_is_seen_in_spite_of_its_size_and_time(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(2):
        Image.fromarray(noise(8, 8, 3, seed=number)).save(root / f"{number}.bmp")
    before, status = load(root).fingerprint, (root / "0.bmp").stat()
    Image.fromarray(noise(8, 8, 3, seed=7)).save(root / "0.bmp")
    os.utime(root / "0.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (root / "0.bmp").stat().st_size == status.st_size and load(root).fingerprint != before


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    names = each("a", "b", count=4)
    first = load(draw(tmp_path / "one" / "photos", names)).fingerprint
    second = draw(tmp_path / "two" / "pictures", reversed(names))  # made in another order, then put right
    draw(second, names)
    os.utime(second / "a" / "0.png", (1, 1))
    assert load(second).fingerprint == first
    draw(second, ["a/0.png"], size=9)
    assert load(second).fingerprint != first


def test_where_the_data_cannot_be_written_their_cache_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, readonly = draw(tmp_path / "photos", each("a", "b")), tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    make = Path.mkdir

    def refuse(path: Path, *arguments: object, **given: object) -> None:
        if path.is_relative_to(readonly) or path.is_relative_to(forbidden):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        make(path, *arguments, **given)  # type: ignore[arg-type]

    forbidden = tmp_path / "nothing"
    caches.say_elsewhere.cache_clear()
    monkeypatch.setattr(Path, "mkdir", refuse)
    before = load(root)
    (line,) = [line for line in caplog.messages if "can't be written" in line]
    assert f"dataset.cache={readonly}: can't be written; its files are kept in {tmp_path / 'own'}" in line
    assert len(list((tmp_path / "own").rglob("*.npy"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(picture_cache.PictureCache, "_build", lambda self: pytest.fail("decoded again"))
        assert load(root).fingerprint == before.fingerprint
    forbidden = tmp_path / "own"  # neither: for this process only
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own" / "other"))
    assert load(root).fingerprint == before.fingerprint
    assert any("until this command ends" in line for line in caplog.messages)


def test_weights_go_elsewhere_where_their_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    (tmp_path / "cache").mkdir()
    make = caches.tempfile.TemporaryFile

    def refuse(dir: Path) -> object:
        if dir == tmp_path / "cache":
            raise OSError(errno.EACCES, "Permission denied")
        return make(dir=dir)

    monkeypatch.setattr(caches.tempfile, "TemporaryFile", refuse)
    caches.say_elsewhere.cache_clear()
    for _ in range(2):
        path = caches.place_for(tmp_path / "cache" / "x.pt", "extractor.inception.cache")
        assert path == tmp_path / "own" / "gan-experiments" / "cache" / "x.pt"
    assert sum("extractor.inception.cache=" in line for line in caplog.messages) == 1
    (tmp_path / "cache" / "x.pt").write_bytes(b"")
    assert caches.place_for(tmp_path / "cache" / "x.pt", "k") == tmp_path / "cache" / "x.pt"


def test_classes_called_by_numbers_are_asked_for_by_those() -> None:
    def ask(classes: tuple[str, ...], *names: str) -> list[int]:
        trained: Any = SimpleNamespace(game=SimpleNamespace(spec=Spec((1, 8, 8), classes), labelled=True))
        return class_numbers(trained, names)

    assert ask(("1", "2", "10"), "10", "1") == [2, 0] and ask(("cat", "dog"), "1", "cat") == [1, 0]
    with pytest.raises(UserError, match="no class 0; there is 1, 2, 10$"):
        ask(("1", "2", "10"), "0")
    with pytest.raises(UserError, match="no class 2; there is cat, dog, or 0 to 1$"):
        ask(("cat", "dog"), "2")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "photos/a: can't be listed (Permission denied); allow reading it"),
        (errno.ENAMETOOLONG, "photos/a: can't be listed (File name too long); shorten the names"),
        (errno.EIO, "photos/a: can't be listed (Input/output error); mend that"),
    ],
)
def test_folders_that_cannot_be_listed_are_named(
    number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, listing = draw(tmp_path / "photos", each("a", "b")), os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "a":
            raise OSError(number, os.strerror(number), str(folder))
        return listing(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError) as caught:
        load(root)
    assert message in str(caught.value)


def test_files_that_may_not_be_read_are_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, opening = draw(tmp_path / "photos", each("a", "b")), Image.open

    def refuse(path: Path) -> Image.Image:
        if path.name == "1.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opening(path)

    monkeypatch.setattr(Image, "open", refuse)
    assert len(load(root).train.samples) == 4
    assert sum("1.png: left out, can't be read (PermissionError" in line for line in caplog.messages) == 2


def test_a_few_images_fill_any_batch(tmp_path: Path) -> None:
    dataset = load(draw(tmp_path / "photos", ["1.png", "2.png", "3.png"]), held_out=0.01)
    assert (len(dataset.train), len(dataset.held_out)) == (2, 1)
    batch = dataset.train.take(Sampler(len(dataset.train), 64, 0).indices(3))
    assert len(batch.samples) == 64 and {int(image[0, 0, 0] * 1e6) for image in batch.samples} <= {
        int(image[0, 0, 0] * 1e6) for image in dataset.train.take(torch.arange(2)).samples
    }

"""Data that can't be used are refused in one line that names the place and the cure."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bad_inputs import Bad, answer
from image_trees import draw, each, noise
from processes import Workshop

BASE = (
    "run.dir=run", "model=mlp", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "metric=none",
    "logger=none", "schedule.images=64", "schedule.batch_size=16", "samples.count=4",
)  # fmt: skip

Prepare = Callable[[Path], object]


def of_folder(says: list[str], prepare: Prepare | None = None, *options: str, path: str = "photos") -> Bad:
    """Training on the folder `photos`."""
    size = [] if any(option.startswith("dataset.size=") for option in options) else ["dataset.size=8"]
    return Bad([*BASE, "dataset=folder", f"dataset.path={path}", *size, *options], says, prepare, tiny=False)


def photos(*names: str) -> Prepare:
    """Some images of these names in `photos`."""
    return lambda home: draw(home / "photos", names)


def option(text: str, *says: str) -> Bad:
    """A value of dataset=folder, on three good images."""
    return of_folder(list(says), photos(*each("a", "b")), text)


def files(**contents: bytes) -> Prepare:
    """Files in `photos` with these contents, ending in .png."""

    def write(home: Path) -> None:
        (home / "photos").mkdir()
        for name, content in contents.items():
            (home / "photos" / f"{name}.png").write_bytes(content)

    return write


def idx(dimensions: tuple[int, ...], content: bytes | None = None, kind: int = 8) -> bytes:
    """An IDX file."""
    size = int(np.prod(dimensions))
    header = bytes([0, 0, kind, len(dimensions)]) + struct.pack(f">{len(dimensions)}I", *dimensions)
    return header + (bytes(size) if content is None else content)


def of_mnist(says: list[str], broken: bytes, end: str = "") -> Bad:
    """MNIST, one of whose four files is broken."""

    def write(home: Path) -> None:
        folder = home / "data" / "MNIST" / "raw"
        folder.mkdir(parents=True)
        for part in ("train", "t10k"):
            (folder / f"{part}-images-idx3-ubyte").write_bytes(idx((2, 28, 28)))
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx((2,)))
        (folder / "train-images-idx3-ubyte").unlink()
        (folder / f"train-images-idx3-ubyte{end}").write_bytes(broken)

    return Bad([*BASE, "dataset=mnist", "run.data=data"], says, write, tiny=False)


def of_array(says: list[str], prepare: Prepare, *options: str) -> Bad:
    """Scoring `x.npz` against the folder `photos`."""

    def write(home: Path) -> None:
        draw(home / "photos", each("cat", "dog"))
        prepare(home)

    own = ["x.npz", "--reference", "photos", "--extractor", "pixels", "--metric", "fid", *options]
    return Bad(own, says, write, "evaluate.py")


def array(**parts: object) -> Prepare:
    """The file x.npz with these arrays."""
    return lambda home: np.savez(home / "x.npz", **parts)  # type: ignore[arg-type]


def target(says: list[str], prepare: Prepare, *options: str) -> Bad:
    """Scoring the folder `made` against the folder `photos` of classes cat and dog."""

    def write(home: Path) -> None:
        draw(home / "photos", each("cat", "dog", count=6))
        prepare(home)

    own = ["made", "--reference", "photos", "--extractor", "pixels", "--metric", "fid", *options]
    return Bad(own, says, write, "evaluate.py")


def cut_cifar(home: Path) -> None:
    """CIFAR's archive, cut short."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    (home / "data").mkdir()
    (home / "data" / "cifar-10-python.tar.gz").write_bytes(content.getvalue()[:40])


def odd_depth(*values: int) -> Prepare:
    """Images of signed whole numbers."""

    def write(home: Path) -> None:
        (home / "photos").mkdir()
        for number in range(3):
            Image.fromarray(np.array([values], np.int32)).save(home / "photos" / f"{number}.tif")

    return write


BROKEN = b"not an image"
IMAGES = noise(6, 8, 8, 3)

BAD = {
    # The folder
    "missing folder": of_folder(["photos: no such folder", "dataset.path"]),
    "empty path": of_folder(["dataset.path=: is empty"], None, path=""),
    "empty path in quotes": of_folder(["dataset.path=''", "is empty"], None, path="''"),
    "no path": Bad([*BASE, "dataset=folder"], ["dataset.path"], tiny=False),
    "empty folder": of_folder(["photos: no images"], lambda home: (home / "photos").mkdir()),
    "a file": of_folder(["photos: is a file, not a folder", "dataset.path"], lambda h: (h / "photos").write_text("")),
    "an archive": of_folder(["x.zip: is a file", "unpack it"], lambda h: (h / "x.zip").write_text(""), path="x.zip"),
    "only texts": of_folder(["photos: no images", "1 file passed over", "a.txt"], lambda h: text_only(h)),
    "only heic": of_folder(["photos: no images", ".heic 1", "a.heic"], lambda h: text_only(h, "a.heic")),
    "long name": of_folder(["can't be looked at (File name too long)"], None, path="n" * 300),
    "long path": of_folder(["can't be looked at (File name too long)"], None, path="/n" * 2500),
    "one image": of_folder(["photos: holds one readable image; at least 2"], photos("1.png")),
    "all broken": of_folder(["none of its 2 images can be read", "cannot identify"], files(a=BROKEN, b=b"")),
    "one broken": of_folder(
        ["photos/b.png: can't be read", "dataset.on_broken=skip"],
        lambda h: (draw(h / "photos", ["a.png", "c.png"]), (h / "photos" / "b.png").write_bytes(BROKEN)),
        "dataset.on_broken=refuse",
    ),
    "no black and white": of_folder(["pixels from -1000 to 3000 have no known black"], odd_depth(-1000, 3000)),
    "only parts to hold out": of_folder(
        ["val/ and test/", "none to train on", "dataset.train_folder"], photos(*each("test", "val"))
    ),
    "a part beside its classes": of_folder(["val/", "dataset.held_out_folder=val"], photos(*each("a", "b", "val/a"))),
    "flat held-out part": of_folder(["no image held out lies in a class"], photos(*each("train/a", "train/b", "val"))),
    # Its options
    "size 0": option("dataset.size=0", "dataset.size=0: must be 1 or more"),
    "size -8": option("dataset.size=-8", "dataset.size=-8: must be 1 or more"),
    "huge size": option("dataset.size=1000000", "dataset.size is 1000000"),
    "size in words": option("dataset.size=large", "dataset.size=large", "number"),
    "half a pixel": option("dataset.size=8.5", "dataset.size=8.5", "whole number"),
    "two channels": option("dataset.channels=2", "dataset.channels is 2; expected 1 (grey) or 3 (colour)"),
    "no channels": option("dataset.channels=0", "dataset.channels=0: must be 1 or more"),
    "nothing held out": option("dataset.held_out=0", "dataset.held_out is 0", "a share between 0 and 1"),
    "all held out": option("dataset.held_out=1", "dataset.held_out is 1"),
    "more held out than there is": option("dataset.held_out=100", "dataset.held_out=100: must be from 0 to 1"),
    "negative share held out": option("dataset.held_out=-0.1", "dataset.held_out=-0.1: must be from 0 to 1"),
    "share 0": option("dataset.share=0", "dataset.share is 0"),
    "share 2": option("dataset.share=2", "dataset.share is 2"),
    "share nan": option("dataset.share=nan", "dataset.share=nan"),
    "no such held-out folder": option("dataset.held_out_folder=c", "held_out_folder=c", "such as a, b"),
    "training folder alone": option("dataset.train_folder=a", "dataset.train_folder is set but", "held_out_folder"),
    "parts that overlap": of_folder(
        ["train_folder a and held_out_folder a overlap"],
        photos(*each("a", "b")),
        "dataset.train_folder=a",
        "dataset.held_out_folder=a",
    ),
    "parts without a common class": of_folder(
        ["share no class folder", "dataset.train_folder"], photos(*each("a", "b", "c/d")), "dataset.held_out_folder=c"
    ),
    "broken images, ignored": option("dataset.on_broken=ignore", "dataset.on_broken is ignore; expected skip"),
    "the cache is a file": of_folder(
        ["can't write the image cache", "dataset.cache"],
        lambda h: (draw(h / "photos", ["1.png", "2.png"]), (h / "taken").write_text("")),
        "dataset.cache=taken",
    ),
    # Files of known sets
    "no IDX file": of_mnist(["train-images-idx3-ubyte: its content has md5", "expected 6bbc"], BROKEN),
    "IDX of another set": of_mnist(["its content has md5", "replace it by the official file"], idx((2, 28, 28))),
    "gzip cut": of_mnist(["train-images-idx3-ubyte.gz: can't be read"], gzip.compress(idx((2, 28, 28)))[:30], ".gz"),
    "no gzip": of_mnist(["train-images-idx3-ubyte.gz: can't be read"], BROKEN, ".gz"),
    "no network": Bad(
        [*BASE, "dataset=mnist", "run.data=data"],
        ["MNIST is in none of data/MNIST/raw and can't be downloaded", "put train-images-idx3-ubyte"],
        tiny=False,
    ),
    "CIFAR cut": Bad(
        [*BASE, "dataset=cifar10", "run.data=data"],
        ["CIFAR-10 is not, or not intact, in data/cifar-10-batches-py", "unpack an intact cifar-10-python.tar.gz"],
        cut_cifar,
        tiny=False,
    ),
    "data is a file": Bad(
        [*BASE, "dataset=mnist", "run.data=data"],
        ["can't be downloaded", "data"],
        lambda h: (h / "data").write_text(""),
        tiny=False,
    ),
    "no points": Bad(["dataset.train_points=0"], ["dataset.train_points=0: must be 1 or more"]),
    "negative points": Bad(["dataset.held_out_points=-3"], ["dataset.held_out_points=-3: must be 1 or more"]),
    "Gaussian of no width": Bad(
        [*BASE, "dataset=gaussian", "dataset.std=0"], ["dataset gaussian: std=0", "must be positive"], tiny=False
    ),
    "mirrored points": Bad(["+dataset.flip=true"], ["flip"]),
    "stacked colours": Bad(
        [*BASE, "dataset=stacked_fashion10k", "dataset.train_images=0"],
        ["dataset.train_images=0: must be 1 or more"],
        tiny=False,
    ),
    # Arrays
    "no array": of_array(["x.npz: no such file"], lambda h: None),
    "no zip": of_array(["x.npz: not a whole .npz file"], lambda h: (h / "x.npz").write_bytes(BROKEN)),
    "array cut": of_array(["x.npz: not a whole .npz file"], lambda h: cut(h)),
    "no images in it": of_array(["x.npz: holds y; expected images as arr_0"], array(y=IMAGES)),
    "floats": of_array(["images are float64", "expected uint8"], array(images=IMAGES / 255)),
    "two axes": of_array(["of shape (6, 8)", "expected uint8 of shape"], array(images=IMAGES[:, :, 0, 0])),
    "four channels": of_array(["expected uint8 of shape"], array(images=np.zeros((6, 8, 8, 4), np.uint8))),
    "both layouts": of_array(["both layouts fit"], array(images=np.zeros((6, 3, 8, 3), np.uint8))),
    "none in it": of_array(["of shape (0, 8, 8, 3)"], array(images=IMAGES[:0])),
    "pickled": of_array(["images isn't a plain array of numbers"], array(images=np.array([{}, []], object))),
    "labels of another length": of_array(["expected 6 integers"], array(images=IMAGES, labels=np.arange(5))),
    "labels with fractions": of_array(["labels are float64"], array(images=IMAGES, labels=np.arange(6) / 2)),
    "labels beyond the classes": of_array(
        ["labels run from 0 to 5, but the reference has 2 classes, cat, dog", "--no-labels"],
        array(images=IMAGES, labels=np.arange(6)),
    ),
    "negative labels": of_array(["labels run from -1 to"], array(images=IMAGES, labels=np.arange(6) - 1)),
    "classes of other names": of_array(
        ["class ant isn't a class of the reference"],
        array(images=IMAGES, labels=np.arange(6) % 2, classes=np.array(["ant", "bee"])),
    ),
    "too few names of classes": of_array(
        ["there are names of 1 classes"], array(images=IMAGES, labels=np.arange(6) % 2, classes=np.array(["ant"]))
    ),
    "a pickle": of_array(["x.npz: not a whole .npz"], lambda h: (h / "x.npz").write_bytes(pickle.dumps([1]))),
    "one class of another name": of_array(
        ["class cow isn't a class of the reference"],
        array(images=IMAGES, labels=np.arange(6) % 2, classes=np.array(["cat", "cow"])),
    ),
    # Folders of generated images
    "no such target": target(["made: no such file or folder"], lambda h: None),
    "target without images": target(["made: holds neither runs"], lambda h: (h / "made").mkdir()),
    "target of other classes": target(
        ["folder ant isn't a class of the reference"],
        lambda h: draw(h / "made", each("ant", "cat")),
    ),
    "target of other numbers": target(["folder 2 isn't a class"], lambda h: draw(h / "made", each("1", "2"))),
    "a stray in the target": target(
        ["made/stray.png: lies beside 2 class folders", "--no-labels"],
        lambda h: draw(h / "made", [*each("cat", "dog"), "stray.png"]),
    ),
    "target of two sizes": target(
        ["images of 2 sizes", "--size 8"], lambda h: (draw(h / "made", ["1.png"]), draw(h / "made", ["2.png"], size=9))
    ),
    "broken target": target(
        ["made: no readable images"], lambda h: ((h / "made").mkdir(), (h / "made" / "a.png").write_bytes(BROKEN))
    ),
}


def text_only(home: Path, name: str = "a.txt") -> None:
    """One file that is no image in `photos`."""
    (home / "photos").mkdir()
    (home / "photos" / name).write_text("x")


def cut(home: Path) -> None:
    """Half of a good x.npz."""
    np.savez(home / "x.npz", images=IMAGES)
    content = (home / "x.npz").read_bytes()
    (home / "x.npz").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("name", BAD)
def test_bad_data(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(BAD[name], workshop, tmp_path)

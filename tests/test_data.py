"""Splits, sampler, embedded and official sets, toy distributions."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from gan_experiments.data import idx, mnist, toy
from gan_experiments.data.base import Dataset, Spec, Split, to_bytes, to_unit
from gan_experiments.data.cifar import cifar10
from gan_experiments.data.sampler import Sampler
from gan_experiments.data.share import shared
from gan_experiments.errors import UserError

ALL_BYTES = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)


def images(count: int = 10, labelled: bool = True) -> Split:
    """Random 3x4x5 images, labelled 0, 1, 2, 0, 1 ..."""
    pixels = torch.randint(256, (count, 3, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Split(pixels, torch.arange(count) % 3 if labelled else None)


def test_bytes_survive_the_way_to_networks_and_back() -> None:
    unit = to_unit(ALL_BYTES)
    assert unit.min() == -1 and unit.max() == 1
    assert torch.equal(to_bytes(unit), ALL_BYTES)


def test_take_gathers_in_the_order_asked_for_with_repeats() -> None:
    split = images()
    wanted = torch.tensor([7, 0, 7, 3])
    batch = split.take(wanted)
    torch.testing.assert_close(batch.samples, split.samples[wanted].double().div(127.5).sub(1).float())
    assert batch.labels is not None and batch.labels.tolist() == [1, 0, 1, 0]
    assert torch.equal(split.raw(2, 5), split.samples[2:5])


def test_rows_pick_a_split_out_of_a_shared_store() -> None:
    whole = images()
    rows = torch.tensor([1, 4, 9])
    part = Split(whole.samples, torch.tensor([5, 6, 7]), rows=rows)
    batch = part.take(torch.tensor([2, 0]))
    assert torch.equal(to_bytes(batch.samples), whole.samples[[9, 1]])
    assert batch.labels is not None and batch.labels.tolist() == [7, 5]
    assert torch.equal(part.raw(1, 3), whole.samples[[4, 9]])
    assert len(part) == 3


def test_flips_mirror_columns_of_the_chosen_images_only() -> None:
    split = images()
    plain = split.take(torch.tensor([0, 1])).samples
    flipped = split.take(torch.tensor([0, 1]), torch.tensor([False, True])).samples
    assert torch.equal(flipped[0], plain[0])
    assert torch.equal(flipped[1], plain[1][:, :, torch.tensor([4, 3, 2, 1, 0])])


def test_a_split_moves_to_a_device_unless_it_is_too_large() -> None:
    # The meta device stands in for an accelerator: it has shapes and places, no values.
    split = images()
    small, large = split.to("meta"), split.to("meta", limit=10 * 60 - 1)
    assert small.samples.device.type == "meta" and large.samples.device.type == "cpu"
    assert split.to("meta", limit=10 * 60).samples.device.type == "meta"
    for moved in (small, large):
        batch = moved.take(torch.tensor([1, 2]))
        assert batch.samples.device.type == "meta" and batch.samples.shape == (2, 3, 4, 5)
        assert batch.labels is not None and batch.labels.device.type == "meta"
        assert moved.raw(0, 3).device.type == "meta"
    assert small.fingerprint == large.fingerprint == split.fingerprint


def test_fingerprint_tells_content_shape_and_labels_apart() -> None:
    split = images()
    changed = split.samples.clone()
    changed[3, 1, 2, 2] ^= 1
    others = [
        Split(changed, split.labels),
        Split(split.samples.view(10, 3, 5, 4), split.labels),
        Split(split.samples),
        Split(split.samples, torch.zeros(10, dtype=torch.int64)),
    ]
    assert len({split.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert Split(split.samples.clone(), split.labels).fingerprint == split.fingerprint
    assert len(split.fingerprint) == 64


def test_fingerprint_of_a_dataset_covers_both_splits() -> None:
    spec = Spec((3, 4, 5), ("a", "b", "c"))
    one = Dataset("one", spec, images(10), images(7))
    assert one.fingerprint == Dataset("two", spec, images(10), images(7)).fingerprint
    assert one.fingerprint != Dataset("one", spec, images(7), images(10)).fingerprint
    unlabelled = Dataset("one", Spec((3, 4, 5)), images(10, labelled=False), images(7, labelled=False), flip=True)
    moved = unlabelled.to("meta", limit=8 * 60)
    assert moved.fingerprint == unlabelled.fingerprint != one.fingerprint and moved.flip
    assert [part.samples.device.type for part in (moved.train, moved.held_out)] == ["cpu", "meta"]


def test_a_share_is_seeded_as_large_of_every_class_and_part_of_larger_ones() -> None:
    spec, everything = Spec((3, 4, 5), ("a", "b", "c")), images(300)
    whole = Dataset("whole", spec, everything, images(7), "cropped", flip=True)
    tenth, again, fifth = shared(whole, 0.1, 5), shared(whole, 0.1, 5), shared(whole, 0.2, 5)
    assert tenth.train.labels is not None and tenth.train.labels.bincount().tolist() == [10, 10, 10]
    assert tenth.train.rows is not None and fifth.train.rows is not None
    rows = tenth.train.rows.tolist()
    assert rows == sorted(rows) and set(rows) <= set(fifth.train.rows.tolist())
    assert torch.equal(tenth.train.raw(0, 30), everything.samples[rows])
    assert tenth.train.labels.tolist() == [row % 3 for row in rows]
    assert (tenth.held_out, tenth.flip, tenth.name) == (whole.held_out, True, "whole")
    assert tenth.transform == "cropped; 0.1 of the training samples, seed 5"
    assert tenth.fingerprint == again.fingerprint != shared(whole, 0.1, 6).fingerprint
    assert len({data.fingerprint for data in (whole, tenth, fifth)}) == 3
    assert shared(whole, 1.0) is whole


def test_a_share_of_uneven_classes_keeps_every_class_and_of_rows_their_store() -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    stored = Split(images(200, labelled=False).samples, labels, rows=torch.arange(100) * 2)
    part = shared(Dataset("uneven", Spec((3, 4, 5), ("a", "b", "c")), stored, images(7)), 0.1).train
    assert part.labels is not None and part.labels.bincount().tolist() == [9, 1, 1]
    assert part.rows is not None and all(row % 2 == 0 for row in part.rows.tolist())
    assert torch.equal(part.raw(0, 11), stored.samples[part.rows])
    unlabelled = Dataset("plain", Spec((3, 4, 5)), images(50, labelled=False), images(7, labelled=False))
    assert len(shared(unlabelled, 0.5).train) == 25 and shared(unlabelled, 0.5).train.labels is None
    assert shared(unlabelled, 0.5).transform == "0.5 of the training samples, seed 0"


def test_shares_of_data_sets() -> None:
    part, other = mnist.fashion10k(share=0.05), mnist.fashion10k(share=0.05, share_seed=1)
    assert (len(part.train), len(part.held_out)) == (500, 2000)
    assert part.train.labels is not None and part.train.labels.bincount().tolist() == [50] * 10
    assert part.spec.frequencies == (0.1,) * 10 and part.train.fingerprint != other.train.fingerprint
    for share in (0.0, 1.5, -0.1):
        with pytest.raises(UserError, match=f"dataset.share is {share}; expected a share .* above 0 and at most 1"):
            mnist.fashion10k(share=share)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Split(torch.zeros(2, 3, 4, 5)), "expected uint8 images"),
        (lambda: Split(torch.zeros(2, 2, dtype=torch.uint8)), "float32 points"),
        (lambda: Split(torch.zeros(0, 2)), "empty"),
        (lambda: Split(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)), r"expected int64 of shape \(3,\)"),
        (lambda: Dataset("d", Spec((1, 4, 5)), images(), images()), r"shape \(3, 4, 5\), expected \(1, 4, 5\)"),
        (lambda: Dataset("d", Spec((3, 4, 5)), images(), images()), "given together"),
        (lambda: Dataset("d", Spec((3, 4, 5), ("a", "b")), images(), images()), "0 to 2, expected 0 to 1"),
        (lambda: Dataset("d", Spec((2,)), *2 * [Split(torch.zeros(3, 2))], flip=True), "points"),
    ],
)
def test_parts_that_do_not_fit_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (10, 10), (7, 5), (5, 12), (1, 4), (64, 8)])
def test_sampler_shows_everything_once_an_epoch(size: int, batch_size: int) -> None:
    sampler = Sampler(size, batch_size, 3, "data")
    batches = [sampler.indices(position) for position in range(4 * size)]
    assert all(batch.shape == (batch_size,) and batch.dtype == torch.int64 for batch in batches)
    stream = torch.cat(batches)
    epochs = stream[: 4 * size * batch_size // size * size].view(-1, size)
    assert torch.equal(epochs.sort(1).values, torch.arange(size).expand_as(epochs))
    if size > 6:
        assert not torch.equal(epochs[0], epochs[1])


def test_sampler_can_be_entered_anywhere() -> None:
    straight = Sampler(10, 3, 0, "data")
    stream = [straight.indices(position) for position in range(40)]
    resumed = Sampler(10, 3, 0, "data")
    assert all(torch.equal(resumed.indices(position), stream[position]) for position in range(17, 40))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()
    assert all(torch.equal(straight.indices(position), stream[position]) for position in order)


def test_sampler_streams_differ_by_seed_and_path() -> None:
    streams = [Sampler(100, 100, 0, "a"), Sampler(100, 100, 1, "a"), Sampler(100, 100, 0, "b")]
    assert len({tuple(stream.indices(0).tolist()) for stream in streams}) == 3


def test_sampler_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    sampler = Sampler(100, 8, 0)
    sampler.indices(5), sampler.flips(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_flips_are_fair_and_repeatable() -> None:
    sampler = Sampler(10, 1000, 0, "data")
    assert torch.equal(sampler.flips(3), Sampler(10, 1000, 0, "data").flips(3))
    assert not torch.equal(sampler.flips(3), sampler.flips(4))
    assert abs(torch.cat([sampler.flips(position) for position in range(20)]).float().mean() - 0.5) < 0.015


def test_sampler_refuses_empty_sets() -> None:
    with pytest.raises(UserError, match="at least 1"):
        Sampler(0, 4, 0)


def test_fashion10k_is_balanced_and_padded() -> None:
    dataset = mnist.fashion10k()
    assert dataset.spec == Spec((1, 32, 32), mnist.FASHION_CLASSES)
    assert dataset.train.labels is not None and dataset.held_out.labels is not None
    assert dataset.train.labels.bincount().tolist() == [1000] * 10
    assert dataset.held_out.labels.bincount().tolist() == [200] * 10
    padded = dataset.train.samples
    assert padded[:, :, 2:-2, 2:-2].float().mean() / 255 == pytest.approx(0.2860, abs=0.002)
    for border in (padded[:, :, :2], padded[:, :, -2:], padded[..., :2], padded[..., -2:]):
        assert not border.any()
    assert dataset.train.fingerprint != dataset.held_out.fingerprint


def test_a_broken_embedded_set_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "fashion10k.npz").write_bytes(b"PK\x03\x04 cut short")
    monkeypatch.setattr(mnist.resources, "files", lambda package: tmp_path)
    with pytest.raises(UserError, match=r"fashion10k.npz: can't be read .* reinstall"):
        mnist.fashion10k()


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of bytes in IDX format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_gzipped_or_not(tmp_path: Path, suffix: str) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(array), mtime=0) if suffix else idx_bytes(array))
    np.testing.assert_array_equal(idx.read(path), array)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzip.compress(idx_bytes(np.zeros(999, np.uint8)), mtime=0)[:-12], "can't be read"),
        ("a.gz", b"not gzip", "can't be read"),
        ("a", b"\x00\x00\x0d\x01", "not an IDX file of unsigned bytes"),
        ("a", b"\x00\x00\x08\x03\x00", "ends within its header"),
        ("a", idx_bytes(np.zeros((5, 4), np.uint8))[:-1], r"holds 19 bytes, expected an array \(5, 4\)"),
    ],
)
def test_broken_idx_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        idx.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_md5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    with pytest.raises(UserError, match=r"md5 [0-9a-f]{32}, expected 000"):
        idx.read(path, "000")


def put_official(folder: Path, suffix: str) -> None:
    """Four well-formed files in an MNIST-like layout, with md5 sums of their own."""
    folder.mkdir(parents=True)
    for part, name in idx.FILES.items():
        array = np.zeros((3, 28, 28) if part.endswith("images") else 3, np.uint8)
        content = idx_bytes(array)
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content, mtime=0) if suffix else content)


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_is_looked_for_in_root(tmp_path: Path, place: str, suffix: str) -> None:
    put_official(tmp_path / "data" / place, suffix)
    with pytest.raises(UserError, match=f"train-images-idx3-ubyte{suffix}: its content has md5"):
        mnist.fashion_mnist(str(tmp_path / "data"))


def test_files_of_the_official_md5_become_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_official(tmp_path / "MNIST" / "raw", ".gz")
    sums = {name: str(idx.hashlib.md5(content).hexdigest()) for name, content in unpacked(tmp_path / "MNIST" / "raw")}
    monkeypatch.setattr(idx, "MNIST_MD5", sums)
    dataset = mnist.mnist(str(tmp_path))
    assert dataset.spec == Spec((1, 32, 32), mnist.DIGITS) and len(dataset.train) == len(dataset.held_out) == 3


def unpacked(folder: Path) -> list[tuple[str, bytes]]:
    """Names without .gz, and decompressed contents."""
    return [(path.stem, gzip.decompress(path.read_bytes())) for path in folder.iterdir()]


def test_debians_fashion_mnist() -> None:
    if idx.find(mnist.DEBIAN_FOLDER) is None:
        pytest.skip(f"package dataset-fashion-mnist is not installed in {mnist.DEBIAN_FOLDER}")
    dataset = mnist.fashion_mnist("no/such/folder")
    assert len(dataset.train) == 60_000 and len(dataset.held_out) == 10_000
    assert dataset.train.labels is not None and dataset.train.labels.bincount().tolist() == [6000] * 10
    official = {image.numpy().tobytes() for image in dataset.held_out.samples}
    assert {image.numpy().tobytes() for image in mnist.fashion10k().held_out.samples} <= official


def offline(*arguments: object, **options: object) -> None:
    """Stands in for torchvision's download on a machine without network."""
    raise URLError("Name or service not known")


@pytest.mark.parametrize("source", [mnist.fashion_mnist, mnist.mnist, cifar10])
def test_no_network_is_one_line(
    source: Callable[[str], Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", offline)
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(UserError, match="can't be downloaded: .*Name or service not known.*into") as caught:
        source(str(tmp_path / "data"))
    assert str(tmp_path / "data") in str(caught.value) and "\n" not in str(caught.value)


def test_cifar10_is_channels_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)

    def source(root: str, train: bool, download: bool) -> SimpleNamespace:
        return SimpleNamespace(data=pixels if train else pixels[:10], targets=list(range(10)) * (2 if train else 1))

    source.base_folder = source.filename = "cifar"  # type: ignore[attr-defined]
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", source)
    dataset = cifar10("data")
    assert dataset.spec.shape == (3, 32, 32) and len(dataset.spec.classes) == 10
    assert (len(dataset.train), len(dataset.held_out)) == (20, 10)
    assert dataset.train.samples[4, 2, 7, 30] == pixels[4, 7, 30, 2]


@pytest.mark.parametrize(("source", "count", "std"), [(toy.ring, 8, 0.01), (toy.grid, 25, 0.05)])
def test_mixtures_lie_around_their_modes(source: Callable[..., Dataset], count: int, std: float) -> None:
    dataset = source(train_points=20_000, held_out_points=5_000)
    assert dataset.modes is not None and dataset.modes.centres.shape == (count, 2) and dataset.modes.std == std
    for split, points in ((dataset.train, 20_000), (dataset.held_out, 5_000)):
        assert len(split) == points and split.labels is not None
        batch = split.take(torch.arange(points))
        residual = batch.samples - dataset.modes.centres[split.labels]
        # Standard errors: of the mean std / sqrt(n), of the deviation std / sqrt(2 * 2n).
        assert residual.mean(0).abs().max() < 5 * std / math.sqrt(points)
        assert abs(residual.std() / std - 1) < 5 / math.sqrt(4 * points)
        expected = points / count
        assert (split.labels.bincount(minlength=count) - expected).abs().max() < 5 * math.sqrt(expected)
    assert not torch.equal(dataset.train.samples[:5000], dataset.held_out.samples)
    assert dataset.fingerprint == source(train_points=20_000, held_out_points=5_000).fingerprint
    assert dataset.fingerprint != source(train_points=20_000, held_out_points=5_000, seed=1).fingerprint


def test_centres_of_ring_and_grid() -> None:
    ring, grid = toy.ring(10, 10).modes, toy.grid(10, 10).modes
    assert ring is not None and grid is not None
    half = math.sqrt(0.5)
    wanted = [(1, 0), (half, half), (0, 1), (-half, half), (-1, 0), (-half, -half), (0, -1), (half, -half)]
    torch.testing.assert_close(ring.centres, torch.tensor(wanted))
    assert {tuple(centre) for centre in grid.centres.tolist()} == {
        (x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)
    }


def test_swiss_roll_follows_its_spiral() -> None:
    clean = toy.swiss_roll(20_000, 1_000, noise=0.0).train.samples * 7.5
    t = clean.norm(dim=1)
    torch.testing.assert_close(clean, torch.stack((t * t.cos(), t * t.sin()), 1), atol=1e-4, rtol=0)
    quantiles = t.quantile(torch.tensor([0.0, 0.5, 1.0])) / math.pi
    torch.testing.assert_close(quantiles, torch.tensor([1.5, 3.0, 4.5]), atol=0.04, rtol=0)
    noise = toy.swiss_roll(20_000, 1_000).train.samples * 7.5 - clean
    assert noise.std() == pytest.approx(0.25, abs=0.006)
    assert toy.swiss_roll(10, 10).spec == Spec((2,))


def test_toy_sets_need_points() -> None:
    with pytest.raises(UserError, match="ring: train_points and held_out_points must be at least 1"):
        toy.ring(train_points=0)

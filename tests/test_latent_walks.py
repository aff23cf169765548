"""Ways between latents, the sheets and films made of them, class rows, and mixed styles cell by cell."""

from __future__ import annotations

import importlib.util
import io
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gan_experiments import films
from gan_experiments.data.base import Spec, to_bytes
from gan_experiments.errors import UserError
from gan_experiments.films import check_film, save_film
from gan_experiments.game import Game
from gan_experiments.games.info import InfoGame
from gan_experiments.games.lapgan import LaplacianGame
from gan_experiments.games.noise import NoiseGame
from gan_experiments.games.style import StyleGame
from gan_experiments.inference import TrainedGenerator
from gan_experiments.latent_walks import WAYS, plane, tour
from gan_experiments.networks.biggan import BigGANDiscriminator, BigGANGenerator
from gan_experiments.networks.lapgan import ResidualDiscriminator, ResidualGenerator
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.networks.stylegan import StyleGANDiscriminator, StyleGANGenerator
from gan_experiments.schema import Config
from gan_experiments.sheets import (
    asked,
    class_numbers,
    class_rows,
    mixing_sheet,
    plane_sheet,
    spans,
    stops,
    walk_frames,
    walk_rows,
)
from gan_experiments.truncation import ResampledNormal, StyleTruncation, styles_of, synthesise
from given import FLOAT32
from test_truncation import CLASSES, mlp_game, style_game


def trained(game: Game | None = None, noise: float = 0.0, **more: Any) -> TrainedGenerator:
    """A generator whose layers add noise of this strength."""
    game = game or style_game(CLASSES)
    for name, parameter in game.named_parameters():
        if name.endswith("scale") and parameter.numel() == 1:
            parameter.fill_(noise)
    return TrainedGenerator(game, Config(), FLOAT32, "ema", 0, 0, **more)


def cells(sheet: NDArray[np.uint8], rows: int, columns: int, side: int = 16) -> NDArray[np.uint8]:
    """Images (rows, columns, side, side) of a sheet with borders of one pixel."""
    assert sheet.shape == (rows * (side + 1) + 1, columns * (side + 1) + 1, 1)
    grid = sheet[1:, 1:, 0].reshape(rows, side + 1, columns, side + 1)
    return grid[:, :-1, :, :-1].transpose(0, 2, 1, 3)


def close(cell: NDArray[np.uint8], image: Tensor) -> bool:
    """Whether a cell shows this image (1, h, w), to one grey level of rounding."""
    wanted = to_bytes(image[0]).numpy().astype(int)
    return bool(np.abs(cell.astype(int) - wanted).max() <= 1) and wanted.std() > 1


# latents


@pytest.mark.parametrize("way", WAYS)
def test_ways_begin_and_end_exactly_at_their_latents(way: str) -> None:
    points = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    walk = tour(points, 5, way)
    assert walk.shape == (11, 4, 7) and walk.dtype == torch.float32
    assert all(torch.equal(walk[place], stop) for place, stop in zip((0, 5, 10), points, strict=True))
    loop = tour(points, 5, way, closed=True)
    assert loop.shape == (15, 4, 7) and torch.equal(loop[:10], walk[:10])
    back = tour(torch.stack([points[2], points[0]]), 5, way)
    assert torch.equal(loop[10:], back[:5])


def test_lines_are_even_and_arcs_keep_the_length() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    line, arc = (tour(torch.stack([a, b]), 4, way)[:, 0] for way in ("lerp", "slerp"))
    torch.testing.assert_close(line, torch.tensor([[2.0, 0], [1.5, 0.5], [1, 1], [0.5, 1.5], [0, 2]]))
    angles = torch.arange(5) * math.pi / 8
    torch.testing.assert_close(arc, 2 * torch.stack([angles.cos(), angles.sin()], 1))


@pytest.mark.parametrize("way", WAYS)
def test_planes_have_their_corners_and_edges(way: str) -> None:
    corners = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    sheet = plane(corners, 3, way)
    assert sheet.shape == (4, 4, 6)
    assert torch.equal(sheet[[0, 0, -1, -1], [0, -1, 0, -1]], corners)
    left, right = (tour(corners[[top, top + 2]][:, None], 3, way)[:, 0] for top in (0, 1))
    assert torch.equal(sheet[:, 0], left) and torch.equal(sheet[:, -1], right)
    for row in range(4):
        across = tour(torch.stack([left[row], right[row]])[:, None], 3, way)[:, 0]
        torch.testing.assert_close(sheet[row], across)
    if way == "lerp":
        torch.testing.assert_close(sheet[1, 2], (2 * corners[0] + 4 * corners[1] + corners[2] + 2 * corners[3]) / 9)


def test_too_short_walks_are_refused() -> None:
    for points, steps in ((torch.zeros(1, 2, 3), 4), (torch.zeros(2, 2, 3), 0)):
        with pytest.raises(UserError, match="expected 1 or more, past 2 or more"):
            tour(points, steps, "lerp")


# sheets


def test_walks_in_rows_show_their_ends_and_keep_the_noise() -> None:
    made = trained(noise=0.5)
    sheet = cells(walk_rows(made, 3, 2, 4, "slerp", 6), 3, 5)
    first, last = stops(made, 2, 3, 6)
    labels = asked(made, 3, 6, ())
    for column, z in ((0, first), (4, last)):
        torch.manual_seed(0)  # what the noise of every set starts from
        images = made.game.sample(z, labels)
        assert all(close(cell, image) for cell, image in zip(sheet[:, column], images, strict=True))
    assert len({cell.tobytes() for cell in sheet.reshape(-1, 16, 16)}) == 15


def test_planes_show_their_corners() -> None:
    made = trained(noise=0.5)
    sheet = cells(plane_sheet(made, 2, "slerp", 4, [1]), 3, 3)
    (corners,) = stops(made, 1, 4, 4)
    for place, z in zip(((0, 0), (0, 2), (2, 0), (2, 2)), corners, strict=True):
        torch.manual_seed(0)
        assert close(sheet[place], made.game.sample(z[None], torch.tensor([1]))[0])


def test_films_go_round() -> None:
    made = trained()
    frames = list(walk_frames(made, 4, 3, 2, "slerp", 0, [2]))
    assert len(frames) == 6 and {frame.shape for frame in frames} == {(35, 35, 1)}
    rows = cells(walk_rows(made, 4, 3, 2, "slerp", 0, [2]), 4, 5)
    for place in range(5):
        assert np.array_equal(cells(frames[place], 2, 2).reshape(4, 16, 16), rows[:, place])


def test_rows_of_classes_have_the_same_latents() -> None:
    made = trained(noise=0.5, truncation=StyleTruncation(0.8))
    sheet = cells(class_rows(made, [2, 0], 5, 9), 2, 5)
    (z,) = stops(made, 1, 5, 9)
    for row, number in zip(sheet, (2, 0), strict=True):
        torch.manual_seed(0)
        images = made.truncation.sample(made.game, z, torch.full((5,), number))
        assert all(close(cell, image) for cell, image in zip(row, images, strict=True))


def test_latents_of_sheets_are_truncated() -> None:
    made = trained(truncation=ResampledNormal(0.2))
    assert all(float(z.abs().max()) <= 0.2 for z in stops(made, 3, 20, 0))


@pytest.mark.parametrize("psi", [None, 0.5])
def test_mixed_styles_cell_by_cell(psi: float | None) -> None:
    made = trained(style_game())
    truncation = StyleTruncation(1.0 if psi is None else psi)
    if psi is not None:
        made = replace(made, truncation=truncation)
    game: Any = made.game
    sheet = cells(mixing_sheet(made, 2, 3, 5, (1, 4)), 7, 4)
    left, top = stops(made, 2, 3, 5)
    own, others = (truncation.styles(game, z, None) for z in (left[:2], top))
    assert (sheet[0, 0] == 128).all()
    for column in range(3):
        assert close(sheet[0, column + 1], synthesise(game, others[column][None], None)[0])
    for block, layers in enumerate(([0], [1, 2, 3], [4, 5])):
        for row in range(2):
            place = 1 + 2 * block + row
            assert close(sheet[place, 0], synthesise(game, own[row][None], None)[0])
            for column in range(3):
                styles = torch.stack([(others[column] if layer in layers else own[row])[layer] for layer in range(6)])[
                    None
                ]
                assert close(sheet[place, column + 1], synthesise(game, styles, None)[0])
    assert not np.array_equal(sheet[1, 1], sheet[3, 1]) and not np.array_equal(sheet[1, 1], sheet[1, 0])
    if psi is None:
        direct = styles_of(game, left[:1], None).expand(6, -1)[None]
        assert close(sheet[1, 0], synthesise(game, direct, None)[0])


def test_mixtures_may_be_of_one_class() -> None:
    made = trained()
    one, other = (mixing_sheet(made, 1, 2, 5, None, [number]) for number in (1, 3))
    assert one.shape == other.shape and not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("layers", "crossovers", "bounds"),
    [
        (18, None, (4, 8)),
        (10, None, (4, 8)),
        (8, None, (3, 5)),
        (6, None, (2, 4)),
        (4, None, (1, 3)),
        (6, (1, 5), (1, 5)),
    ],
)
def test_spans_of_layers(layers: int, crossovers: tuple[int, int] | None, bounds: tuple[int, int]) -> None:
    found = [list(range(layers))[part] for part in spans(layers, crossovers)]
    assert sum(found, []) == list(range(layers)) and all(found)
    assert (found[1][0], found[2][0]) == bounds


@pytest.mark.parametrize("crossovers", [(0, 3), (3, 3), (4, 2), (2, 6)])
def test_empty_spans_are_refused(crossovers: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="expected two rising layers between 1 and 5"):
        spans(6, crossovers)


def test_classes_go_by_name_then_number() -> None:
    made = trained()
    assert class_numbers(made, ["dog", "a/b", "0"]) == [1, 3, 0]
    assert class_numbers(made, ["7"]) == [2] and class_numbers(made, []) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="^no class cow; there is cat, dog, 7, a/b, or 0 to 3$"):
        class_numbers(made, ["dog", "cow"])
    with pytest.raises(UserError, match="told none"):
        class_numbers(trained(style_game()), [])


def test_points_have_no_sheets_and_plain_generators_no_styles() -> None:
    made = trained(mlp_game())
    for make in (partial(walk_rows, made, 2, 2, 2, "lerp", 0), partial(class_rows, made, [0], 2, 0)):
        with pytest.raises(UserError, match="this run makes points"):
            make()
    with pytest.raises(UserError, match="^mixing: this NoiseGame has no styles"):
        mixing_sheet(made, 1, 1, 0)


@pytest.mark.parametrize("kind", ["uniform", "codes", "laplacian"])
def test_arcs_are_for_normal_latents_only(kind: str) -> None:
    spec = Spec((1, 16, 16))
    networks: Any = partial(MLPGenerator, latent_dim=4, hidden=(4,)), partial(MLPDiscriminator, hidden=(4,))
    games: dict[str, Any] = {
        "uniform": partial(NoiseGame, spec, *networks, latent="uniform"),
        "codes": partial(InfoGame, spec, *networks, categories=[2], continuous=1),
        "laplacian": partial(
            LaplacianGame, spec, *networks, partial(ResidualGenerator, width=2), partial(ResidualDiscriminator, width=2)
        ),
    }
    made = trained(games[kind]().eval().requires_grad_(False))
    for draw in (partial(walk_rows, made, 2, 2), partial(walk_frames, made, 2, 2), partial(plane_sheet, made)):
        with pytest.raises(
            UserError, match=r"^slerp: latents of this \w+ are uniform or hold codes.*take lerp"
        ) as error:
            draw(2, "slerp", 0)  # type: ignore[operator]
        assert "\n" not in str(error.value)
    assert len(list(walk_frames(made, 2, 2, 2, "lerp", 0))) == 4
    cells(walk_rows(made, 2, 2, 2, "lerp", 0), 2, 3)
    cells(plane_sheet(made, 2, "lerp", 0), 3, 3)


@pytest.mark.parametrize("kind", ["biggan", "stylegan"])
def test_conditional_games_have_all_sheets(kind: str) -> None:
    torch.manual_seed(0)
    spec = Spec((1, 8, 8), CLASSES)
    games: dict[str, Any] = {
        "biggan": partial(
            NoiseGame, spec, partial(BigGANGenerator, width=2, conditional=True),
            partial(BigGANDiscriminator, width=2, conditional=True),
        ),
        "stylegan": partial(
            StyleGame, spec,
            partial(StyleGANGenerator, latent_dim=5, style_dim=6, mapping_layers=2, channel_max=8, conditional=True),
            partial(StyleGANDiscriminator, channel_max=8, conditional=True),
        ),
    }  # fmt: skip
    made = trained(games[kind]().eval().requires_grad_(False))
    rows = cells(class_rows(made, [0, 2, 3], 2, 0), 3, 2, 8)
    assert not np.array_equal(rows[0], rows[1])
    walk = cells(walk_rows(made, 2, 2, 2, "slerp", 0, [2]), 2, 3, 8)
    assert walk.std() > 0 and not np.array_equal(walk, cells(walk_rows(made, 2, 2, 2, "slerp", 0, [1]), 2, 3, 8))
    cells(plane_sheet(made, 2, "lerp", 0), 3, 3, 8)
    if kind == "stylegan":
        sheets = [cells(mixing_sheet(made, 1, 2, 0, None, [number]), 4, 3, 8) for number in (0, 1)]
        assert not np.array_equal(*sheets)


# films


def moving(count: int, height: int = 20, width: int = 31, channels: int = 3) -> list[NDArray[np.uint8]]:
    """Frames with a bright bar at another place in each."""
    frames = np.zeros((count, height, width, channels), np.uint8)
    for place, frame in enumerate(frames):
        frame[:, 3 * place : 3 * place + 3] = (250, 40, 90)[:channels]
    return list(frames)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_has_all_frames_at_their_rate(channels: int, tmp_path: Path) -> None:
    frames = moving(7, channels=channels)
    save_film(tmp_path / "new" / "walk.gif", iter(frames), 20)
    with Image.open(tmp_path / "new" / "walk.gif") as film:
        assert (film.n_frames, film.size, film.info["loop"], film.info["duration"]) == (7, (31, 20), 0, 50)  # type: ignore[attr-defined]
        for place, frame in enumerate(frames):
            film.seek(place)
            shown = np.asarray(film.convert("RGB")).astype(int)
            assert np.abs(shown - frame).max() <= 8
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["walk.gif"]


def test_an_mp4_has_all_frames_enlarged_to_even_sides(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    frames = moving(7)
    save_film(tmp_path / "walk.mp4", iter(frames), 20)
    with av.open(io.BytesIO((tmp_path / "walk.mp4").read_bytes())) as film:
        (stream,) = film.streams.video
        assert stream.codec_context.name == "h264" and stream.average_rate == 20
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(stream)]
    assert len(shown) == 7 and {frame.shape for frame in shown} == {(320, 496, 3)}
    for place, (frame, wanted) in enumerate(zip(shown, frames, strict=True)):
        # In the middle of each small pixel, away from the blur of stored colours.
        assert np.abs(frame[8::16, 8::16] - wanted)[:, 3 * place + 1].mean() < 16
        assert frame[8::16, 8::16].sum(axis=(0, 2)).argmax() // 3 == place


def test_small_frames_are_enlarged_and_sides_made_even() -> None:
    assert films.enlarged(np.zeros((3, 5, 1), np.uint8)).shape == (306, 510, 3)
    assert films.enlarged(np.zeros((301, 257, 3), np.uint8)).shape == (302, 258, 3)
    assert films.enlarged(np.full((600, 700, 1), 9, np.uint8)).tolist()[0][0] == [9, 9, 9]


def test_films_that_cannot_be_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="^walk.avi: a film is a file ending in .gif or .mp4$"):
        check_film(Path("walk.avi"), 20)
    with pytest.raises(UserError, match="^0 frames a second: expected 1 to 100$"):
        check_film(Path("walk.gif"), 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package av: pip install 'gan-experiments\[video\]'$"):
        check_film(Path("walk.mp4"), 20)

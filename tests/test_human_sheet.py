"""Human evaluation: the page leaks nothing, and answers of known error rates get their score."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from gan_experiments.analysis.human import (
    FAKE,
    REAL,
    Key,
    Rater,
    from_bytes,
    from_folder,
    make_sheet,
    read_answers,
    score,
)
from gan_experiments.errors import UserError
from processes import Done, gan_train, run_in_turn, script

IMAGES = (
    "schedule.images=null", "schedule.steps=2", "schedule.batch_size=16", "model.generator.width=2",
    "model.discriminator.width=2", "metric=none", "logger=none", "samples.count=4", "evaluation.samples=64",
)  # fmt: skip


def folder(path: Path, count: int, shade: int, size: int = 8, kind: str = "png") -> Path:
    """Images of about one shade, with a comment in their metadata."""
    path.mkdir(parents=True)
    generator = np.random.default_rng(shade)
    for number in range(count):
        pixels = generator.integers(shade, shade + 50, (size, size, 3)).astype(np.uint8)
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", f"{path.name} {number}")
        Image.fromarray(pixels).save(path / f"{number}.{kind}", **({"pnginfo": note} if kind == "png" else {}))
    return path


def contents(page: Path) -> dict[str, Any]:
    """The data in a page."""
    found = re.search(r'<script id="sheet" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture
def sheet(tmp_path: Path) -> tuple[Path, Path]:
    """A page of 12 dark real and 12 bright fake images, and its key."""
    reals = from_folder(folder(tmp_path / "truth", 20, 0), 12, 0, None)
    fakes = from_folder(folder(tmp_path / "bright", 12, 200), 12, 0, None)
    page = make_sheet(reals, fakes, tmp_path / "out", 0.5, {"seed": 0})
    return page, tmp_path / "out" / "key.json"


def test_page_holds_all_images_and_the_key_their_kinds(sheet: tuple[Path, Path]) -> None:
    """Every image of the page is in the key, called what it is; the time limit is passed on."""
    page, key_file = sheet
    data, key = contents(page), Key.read(key_file)
    assert data["sheet"] == key.sheet and data["seconds"] == 0.5
    assert {entry["id"] for entry in data["images"]} == set(key.images) and len(data["images"]) == 24
    for entry in data["images"]:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["png"]))))
        assert key.images[entry["id"]] == (REAL if pixels.mean() < 100 else FAKE)


def test_page_tells_nothing(sheet: tuple[Path, Path]) -> None:
    """Names are random and in order, the files alike and without metadata; no paths, no kinds, no network."""
    page, key_file = sheet
    data, key = contents(page), Key.read(key_file)
    names = [entry["id"] for entry in data["images"]]
    assert names == sorted(names) and all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    assert [set(entry) for entry in data["images"]] == [{"id", "png"}] * 24 and set(data) == {
        "sheet",
        "seconds",
        "images",
    }
    # Sorted random names put kinds in random order: all reals first has a chance of 7e-7.
    kinds = [key.images[name] for name in names]
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)
    for entry in data["images"]:
        content = base64.b64decode(entry["png"])
        image = Image.open(io.BytesIO(content))
        assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (8, 8), {})
        assert re.findall(rb"IHDR|tEXt|iTXt|zTXt|eXIf|tIME|iCCP|gAMA|pHYs", content) == [b"IHDR"]
    text = page.read_text()
    for secret in ("truth", "bright", str(page.parent.parent), "http", '"real":', "Comment"):
        assert secret not in text
    outside = text.replace(json.dumps(data), "")
    assert len(outside) < len(text) and not any(name in outside for name in names)
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_names_do_not_follow_from_the_seed(tmp_path: Path) -> None:
    """Two pages of the same images have other names, so that nobody can work them out."""
    images = from_bytes(torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 4, 4))
    assert images[3].shape == (4, 4, 3) and images[3].max() == 3
    pages = [make_sheet(images[:4], images[4:], tmp_path / name, None, {}) for name in ("a", "b")]
    first, second = ({entry["id"] for entry in contents(page)["images"]} for page in pages)
    assert not first & second


def test_choice_follows_the_seed_and_sizes_must_agree(tmp_path: Path) -> None:
    """Same seed, same images; other sizes are refused, or brought to one with --size; too few are counted."""
    small, large = folder(tmp_path / "small", 9, 0), folder(tmp_path / "large", 9, 100, 16, "jpg")
    first, again, other = (from_folder(small, 5, seed, None) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    with pytest.raises(UserError, match="different sizes .16x16, 8x8.*set --size"):
        make_sheet(first, from_folder(large, 5, 0, None), tmp_path / "out", None, {})
    sized = [from_folder(path, 5, 0, 10) for path in (small, large)]
    assert {image.shape for side in sized for image in side} == {(10, 10, 3)}
    with pytest.raises(UserError, match="holds 9 images, but 10 are wanted"):
        from_folder(small, 10, 0, None)
    with pytest.raises(UserError, match="no such folder"):
        from_folder(tmp_path / "nothing", 1, 0, None)
    (small / "0.png").write_text("no image")
    with pytest.raises(UserError, match="0.png: can't be read"):
        from_folder(small, 9, 0, None)


def made_key(count: int) -> Key:
    return Key("s", {f"{place:03d}": REAL if place < count else FAKE for place in range(2 * count)})


def wrong_on(key: Key, name: str, real: int, fake: int) -> Rater:
    """A rater who is wrong on the first so many real and fake images."""
    answers, left = {}, {REAL: real, FAKE: fake}
    for image, kind in key.images.items():
        missed = left[kind] > 0
        left[kind] -= missed
        answers[image] = (FAKE if kind == REAL else REAL) if missed else kind
    return Rater(name, answers)


def test_known_error_rates() -> None:
    """10 and 30 of 50 wrong on fakes, 5 and 15 on reals: 40 %, 20 % and 30 %, and each rater's own."""
    key = made_key(50)
    result = score(key, [wrong_on(key, "a", 5, 10), wrong_on(key, "b", 15, 30)])
    assert (result.overall.error, result.overall.n) == (pytest.approx(0.3), 200)
    assert result.on_real[:2] == (pytest.approx(0.2), 100) and result.on_fake[:2] == (pytest.approx(0.4), 100)
    assert result.raters["a"]["all"][:2] == (pytest.approx(0.15), 100)
    assert result.raters["b"]["fake"].error == pytest.approx(0.6) and result.raters["b"]["real"].error == pytest.approx(
        0.3
    )
    for part in (result.overall, result.on_real, result.on_fake):
        assert part.interval is not None and part.interval[0] < part.error < part.interval[1]
    record = result.to_record()
    assert json.loads(json.dumps(record)) == json.loads(json.dumps(record)) and record["indistinguishable"] == 0.5
    assert score(key, [wrong_on(key, "a", 5, 10), wrong_on(key, "b", 15, 30)]) == result


def test_perfect_and_inverted_raters() -> None:
    key = made_key(10)
    assert score(key, [wrong_on(key, "a", 0, 0)]).overall[:] == (0, 20, (0, 0))
    assert score(key, [wrong_on(key, "a", 10, 10)]).overall[:] == (1, 20, (1, 1))


def test_interval_of_one_rater_is_binomial() -> None:
    """With one rater only images vary: about +-1.96 sqrt(p(1 - p)/n)."""
    key = made_key(200)
    low, high = score(key, [wrong_on(key, "a", 60, 60)]).overall.interval or (0, 0)
    reach = 1.96 * (0.3 * 0.7 / 400) ** 0.5
    assert (high - low) / 2 == pytest.approx(reach, rel=0.1) and (high + low) / 2 == pytest.approx(0.3, abs=0.01)


def test_disagreeing_raters_widen_the_interval() -> None:
    """Four raters at 30 % are surer than two at 5 % and two at 55 %; images all miss count as images, not answers."""
    key = made_key(100)
    same, apart = (
        score(key, [wrong_on(key, name, wrong, wrong) for name, wrong in zip("abcd", rates, strict=True)]).overall
        for rates in ((30, 30, 30, 30), (5, 5, 55, 55))
    )
    assert same.error == apart.error == pytest.approx(0.3)
    widths = [part.interval[1] - part.interval[0] for part in (same, apart) if part.interval is not None]
    assert widths[1] > 2 * widths[0]
    # All miss the same images, so four raters say no more than one.
    one = score(key, [wrong_on(key, "a", 30, 30)]).overall.interval or (0, 0)
    assert widths[0] == pytest.approx(one[1] - one[0], rel=0.1)


def saved(path: Path, key: Key, rater: Rater) -> Path:
    """Answers as the page saves them, JSON or CSV by the file's name."""
    entries = [{"image": image, "answer": answer, "milliseconds": 700} for image, answer in rater.answers.items()]
    if path.suffix == ".json":
        path.write_text(json.dumps({"sheet": key.sheet, "rater": rater.name, "answers": entries}))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["sheet", "rater", *entries[0]], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({"sheet": key.sheet, "rater": rater.name, **entry} for entry in entries)
    return path


def test_answers_are_read_from_both_formats(tmp_path: Path) -> None:
    key = made_key(5)
    rater = wrong_on(key, 'a "b", c', 1, 2)
    for name in ("a.json", "a.csv"):
        assert read_answers(saved(tmp_path / name, key, rater), key) == rater


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sheet": "other"}, "answers of sheet other, but the key is of sheet s"),
        ({"answers": [{"image": "xyz", "answer": "real"}]}, "image xyz, which the key doesn't have"),
        ({"answers": [{"image": "000", "answer": "maybe"}]}, "'maybe'; expected real or fake"),
        ({"answers": [{"image": "000", "answer": "real"}] * 2}, "two answers for image 000"),
        ({"answers": []}, "at least one answer"),
        ({"rater": ""}, "all of one rater"),
        ({"answers": 3}, "no list of answers"),
    ],
)
def test_foreign_answers_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    answers = {"sheet": "s", "rater": "a", "answers": [{"image": "000", "answer": "real"}]} | change
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(answers))
    with pytest.raises(UserError, match=said):
        read_answers(path, made_key(2))


def test_other_refusals(tmp_path: Path) -> None:
    key = made_key(2)
    with pytest.raises(UserError, match="rater a has two files"):
        score(key, [wrong_on(key, "a", 0, 0)] * 2)
    with pytest.raises(UserError, match="no answer for any image of kind fake"):
        score(key, [Rater("a", {"000": REAL})])
    (tmp_path / "key.json").write_text('{"sheet": "s"}')
    with pytest.raises(UserError, match="not a key"):
        Key.read(tmp_path / "key.json")
    with pytest.raises(UserError, match="can't be read as JSON"):
        Key.read(tmp_path / "none.json")


# Somebody who takes the first real image for fake, and the first two fake ones for real.
ANSWER = """
import json
key = json.load(open("sheet/key.json"))
other, left = {"real": "fake", "fake": "real"}, {"real": 1, "fake": 2}
answers = []
for image, kind in key["images"].items():
    answers.append({"image": image, "answer": other[kind] if left[kind] > 0 else kind, "milliseconds": 5})
    left[kind] -= 1
with open("answers.json", "w") as file:
    json.dump({"sheet": key["sheet"], "rater": "someone", "answers": answers}, file)
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Done]]:
    """The script on two folders and on a run, its score, and two refusals."""
    home = tmp_path_factory.mktemp("people")
    real, fake = folder(home / "real", 6, 0), folder(home / "fake", 6, 100, 12)
    score_own = script("human_sheet.py", "score", "sheet/key.json", "answers.json", "--json", "score.json", cwd=home)
    done = run_in_turn(
        {
            "train": gan_train(*IMAGES, "run.dir=run", cwd=home),
            "run": script("human_sheet.py", "make", "run", "--out", "run sheet", "--count", "6", cwd=home),
            "folders": script(
                "human_sheet.py", "make", real, fake, "--out", "sheet", "--count", "8", "--size", "8",
                "--seconds", "0.5", cwd=home,
            ),
            "sizes": script("human_sheet.py", "make", real, fake, "--out", "no", "--count", "8", cwd=home),
            "odd": script("human_sheet.py", "make", real, fake, "--out", "no", "--count", "7", cwd=home),
            "score": replace(score_own, prelude=ANSWER),
            "foreign": script("human_sheet.py", "score", "run sheet/key.json", "answers.json", cwd=home),
        },
        home,
    )  # fmt: skip
    return home, done


def test_script_makes_and_scores(commands: tuple[Path, dict[str, Done]]) -> None:
    home, done = commands
    assert [done[name].code for name in ("train", "run", "folders", "score")] == [0] * 4, done
    assert len(contents(home / "sheet" / "page" / "index.html")["images"]) == 8
    record = json.loads((home / "score.json").read_text())
    assert record["error"]["error"] == 3 / 8 and record["error_on_fake"] == {
        "error": 0.5, "n": 4, "interval": record["error_on_fake"]["interval"]
    }  # fmt: skip
    assert "37.5 %" in done["score"].out and "50 % wrong means indistinguishable" in done["score"].out


def test_script_takes_held_out_images_of_a_run(commands: tuple[Path, dict[str, Done]]) -> None:
    """Half are images of the held-out split, bit for bit, and called real."""
    from gan_experiments.data.mnist import fashion10k

    home, _ = commands
    data, key = contents(home / "run sheet" / "page" / "index.html"), Key.read(home / "run sheet" / "key.json")
    held_out = {image.numpy().tobytes() for image in fashion10k().held_out.raw(0, 2000)}
    for entry in data["images"]:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["png"]))))
        assert pixels.shape == (32, 32, 3)
        assert (pixels[:, :, 0].tobytes() in held_out) == (key.images[entry["id"]] == REAL)
    facts = json.loads((home / "run sheet" / "key.json").read_text())
    assert "held-out images of fashion10k" in facts["real"] and "ema weights" in facts["fake"]


def test_script_refuses_in_one_line(commands: tuple[Path, dict[str, Done]]) -> None:
    _, done = commands
    assert done["sizes"].code == 1 and done["sizes"].lines[-1].startswith("human_sheet.py: images have different sizes")
    assert done["odd"].code == 2 and "--count 7: must be even" in done["odd"].err
    assert (
        done["foreign"].code == 1
        and len(done["foreign"].lines) == 1
        and "but the key is of sheet" in done["foreign"].err
    )

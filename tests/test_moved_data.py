"""A run goes on when its data have moved, as long as they are the same data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from gan_experiments.analysis.choices import Choice
from gan_experiments.analysis.comparison import read_settings
from gan_experiments.analysis.sweep import mismatches, read_sweep
from gan_experiments.config import conf_dir
from gan_experiments.errors import UserError
from gan_experiments.locations import declared, locations, moved
from gan_experiments.metrics.statistics_cache import StatisticsCache
from gan_experiments.observers.evaluation import check_extractors
from gan_experiments.rundir import read_config, refuse_changes
from image_trees import draw, each
from processes import Done, Workshop, gan_train, script
from run_folders import config, fid, put

ON_IMAGES = (
    "model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "dataset=folder", "dataset.size=16",
    "metric=[fid]", "extractor=pixels", "logger=none", "schedule.batch_size=8", "evaluation.samples=64",
    "evaluation.batch_size=32", "samples.count=4",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with 24 images of two classes in `photos`."""
    draw(tmp_path / "photos", each("2", "10", count=12), size=16)
    return tmp_path


def train(workshop: Workshop, home: Path, images: int, *more: str) -> Done:
    """A run of so many images in `home`/run."""
    own = ("run.dir=run", f"schedule.images={images}", f"checkpoint.every={images}")
    return workshop.run(gan_train(*ON_IMAGES, *own, *more, cwd=home))


def halt(home: Path) -> None:
    """Make the finished run one that was stopped."""
    status = json.loads((home / "run" / "status.json").read_text())
    (home / "run" / "status.json").write_text(json.dumps(status | {"state": "stopped"}))


def test_a_run_goes_on_when_its_data_moved_and_not_with_others(home: Path, workshop: Workshop) -> None:
    first = train(workshop, home, 80, "dataset.path=photos")
    assert first.code == 0, first.err
    (home / "elsewhere").mkdir()
    (home / "photos").rename(home / "elsewhere" / "pictures")
    halt(home)
    again = train(workshop, home, 80, "dataset.path=elsewhere/pictures", "run.data=elsewhere/data")
    assert again.code == 0 and "continuing run from 80 images" in again.err, again.err
    config = read_config(home / "run")
    assert config["dataset"]["path"] == "elsewhere/pictures" and config["run"]["data"] == "elsewhere/data"
    scored = workshop.run(script("evaluate.py", "run", cwd=home))
    assert scored.code == 0 and "fid" in scored.out, scored.err

    draw(home / "elsewhere" / "pictures", ["2/0.png"], size=17)
    halt(home)
    refused = train(workshop, home, 80, "dataset.path=elsewhere/pictures")
    assert refused.code == 1 and "the data set has changed since this run began" in refused.lines[-1], refused.err
    assert read_config(home / "run") == config
    (home / "elsewhere").rename(home / "third")
    lost = workshop.run(script("evaluate.py", "run", cwd=home))
    assert lost.code == 1 and "elsewhere/pictures: no such folder; set dataset.path" in lost.lines[-1]
    places = ("dataset.path=third/pictures", "run.data=third/data")
    found = workshop.run(script("evaluate.py", "run", *places, cwd=home))
    assert found.code == 0 and not (home / "elsewhere").exists(), found.err


def test_other_changes_are_refused_as_before() -> None:
    old = {"run": {"data": "a"}, "dataset": {"_target_": "gan_experiments.data.folder.folder", "path": "a", "size": 8}}
    refuse_changes(old, old | {"run": {"data": "b"}, "dataset": old["dataset"] | {"path": "b"}}, Path("r"))
    with pytest.raises(UserError, match=r"\(dataset.size: 8 -> 9\)"):
        refuse_changes(old, old | {"dataset": old["dataset"] | {"path": "b", "size": 9}}, Path("r"))
    with pytest.raises(UserError, match="dataset._target_"):
        refuse_changes(old, old | {"dataset": {"_target_": "gan_experiments.data.mnist.mnist"}}, Path("r"))


def test_every_place_in_our_options_is_declared() -> None:
    """Keys called like places are declared by the class that takes them, wherever an option's file lists them."""
    wanted = {"path", "root", "cache"}
    for file in sorted(Path(conf_dir()).glob("*/*.yaml")):
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        found = set(locations(content))
        for key, target in nodes(content):
            missing = {name for name in wanted if name in target} - set(declared(str(target["_target_"])))
            assert not missing, f"{file}: {key} takes {missing}"
            assert {f"{key}.{name}".lstrip(".") for name in wanted if name in target} <= found


def nodes(value: Any, where: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """All nodes with a `_target_`, by dotted key."""
    if not isinstance(value, Mapping):
        return []
    own = [(where, value)] if "_target_" in value else []
    return own + [found for key, child in value.items() for found in nodes(child, f"{where}.{key}".lstrip("."))]


def test_what_lies_below_the_moved_folder_moves_with_it() -> None:
    target = {"_target_": "gan_experiments.metrics.inception.InceptionSource", "cache": "data/cache/x", "weights": None}
    config = {
        "run": {"data": "data", "dir": "data/run"},
        "evaluation": {"cache": "data/cache/statistics"},
        "dataset": {"_target_": "gan_experiments.data.mnist.mnist", "root": "data"},
        "extractor": {"inception": target, "other": target | {"cache": "database"}},
    }
    found = moved(config, "data", "/new/")
    assert found["run"] == {"data": "/new", "dir": "data/run"} and found["dataset"]["root"] == "/new"
    assert found["evaluation"]["cache"] == "/new/cache/statistics"
    assert [node["cache"] for node in found["extractor"].values()] == ["/new/cache/x", "database"]
    assert config["run"]["data"] == "data"
    settings = Choice(overrides=["run.data=there"]).moved(config)
    assert settings["dataset"]["root"] == "there" and settings["run"]["data"] == "there"


def folder_at(path: str) -> dict[str, Any]:
    """The configuration of a data set there."""
    return {"_target_": "gan_experiments.data.folder.folder", "path": path, "size": 8}


def test_places_of_equal_data_are_no_settings_and_those_of_others_are(tmp_path: Path) -> None:
    for seed, path in enumerate(("a", "b", "moved/a")):
        facts = {"dataset": path, "data_fingerprint": "B" if path == "b" else "A"}
        put(tmp_path / str(seed), config(seed, dataset=folder_at(path)), fid(1.0 + seed, **facts))
    first, second = read_sweep(tmp_path)
    assert [run.seed for run in first.runs] == [0, 2] and [run.seed for run in second.runs] == [1]
    assert (first.label, second.label) == ("dataset.path=a", "dataset.path=b")
    assert not list(mismatches([first], "fid"))
    assert list(mismatches([first, second], "fid")) == ["dataset is a or b or moved/a", "data_fingerprint is A or B"]
    settings = read_settings([f"x={tmp_path / '0'}", f"x={tmp_path / '2'}", f"y={tmp_path / '1'}"])
    assert [len(setting.runs) for setting in settings] == [2, 1]
    with pytest.raises(UserError, match="x: its runs differ in dataset.path"):
        read_settings([f"x={tmp_path / '0'}", f"x={tmp_path / '1'}", f"y={tmp_path / '2'}"])


def test_other_weights_of_an_extractor_end_a_run() -> None:
    extractor = SimpleNamespace(name="inception", sha256="a" * 64, resize="none")
    evaluator: Any = SimpleNamespace(stations=[SimpleNamespace(extractor=extractor), SimpleNamespace(extractor=None)])
    record = {"extractor": "inception", "extractor_sha256": "a" * 64}
    check_extractors({"fid": record, "modes": {"extractor": "none", "extractor_sha256": ""}}, evaluator)
    check_extractors({"fid": {"extractor": "clip", "extractor_sha256": "b"}}, evaluator)
    with pytest.raises(UserError, match="extractor inception: its weights have SHA-256 aaaaaaaaaaaa..., but fid was"):
        check_extractors({"fid": record | {"extractor_sha256": "b" * 64}}, evaluator)


def test_a_cache_of_statistics_that_cannot_be_kept_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file")
    cache = StatisticsCache(tmp_path / "taken")
    for _ in range(2):
        assert cache.load({"kind": "sums"}) is None
        cache.save({"kind": "sums"}, {})
    (line,) = caplog.messages
    assert line.startswith(f"evaluation.cache={tmp_path / 'taken'}: can't be written (File exists)")


def test_links_in_circles_among_runs_end(tmp_path: Path) -> None:
    put(tmp_path / "sweep" / "deep" / "0", config(0), fid(1.0))
    for number in range(3):
        (tmp_path / "sweep" / "deep" / f"up{number}").symlink_to(tmp_path / "sweep")
    (first,) = read_sweep(tmp_path / "sweep")
    assert [run.seed for run in first.runs] == [0]

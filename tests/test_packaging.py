"""The package as others get it: what the archives hold, and that an installed gan-train works without the checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tiny import TINY

ROOT = Path(__file__).parents[1]
CONF = {path.relative_to(ROOT / "conf").as_posix(): path for path in (ROOT / "conf").rglob("*.yaml")}
SOURCES = {path.relative_to(ROOT / "src").as_posix(): path for path in (ROOT / "src").rglob("*.py")}
ASSETS = (
    "fashion10k.npz", "fashion_classifier.safetensors", "fashion_classifier.json", "FASHION_MNIST_LICENSE.txt",
    "human_sheet.html",
)  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def python(*arguments: str | Path, cwd: Path, interpreter: str | Path = sys.executable) -> str:
    """Output of a command that must succeed and sees neither the checkout nor a package index."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [interpreter, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel; its dependencies are those of the running one."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False)
    interpreter = home / "bin" / "python"
    python("-m", "pip", "--python", interpreter, "install", "--quiet", "--no-deps", wheel, cwd=home)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(python("-c", code, cwd=home, interpreter=interpreter).strip())
    # Such a line makes packages visible, but not what *.pth files beside them, of an editable install say, would add.
    lines = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "dependencies.pth").write_text("".join(f"{line}\n" for line in sorted(lines)))
    return home / "bin"


def check_content(path: Path) -> None:
    """Every source, configuration and asset of the checkout, byte for byte, the licences, and nothing else."""
    assert path.stat().st_size < 10e6
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        expected = {f"gan_experiments/conf/{name}": file for name, file in CONF.items()} | SOURCES
        expected |= {f"gan_experiments/assets/{name}": ROOT / "src/gan_experiments/assets" / name for name in ASSETS}
        assert names >= expected.keys(), sorted(expected.keys() - names)
        assert [name for name, file in expected.items() if archive.read(name) != file.read_bytes()] == []
        others = {name for name in names - expected.keys() if ".dist-info/" not in name}
        assert others == set()
        (licence,) = (name for name in names if re.fullmatch(r"[^/]*\.dist-info/licenses/LICENSE", name))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_holds_sources_configuration_assets_and_licences(wheel: Path) -> None:
    assert "config.yaml" in CONF and len(CONF) > 30
    check_content(wheel)


def test_a_wheel_built_from_the_source_archive_holds_the_same(wheel: Path, tmp_path: Path) -> None:
    python("-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (folder / "tests" / "tiny.py").exists() and (folder / "scripts" / "sample.py").exists()
    assert not list(folder.rglob("__pycache__")) and not (folder / "outputs").exists()
    python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", cwd=folder)
    (again,) = (tmp_path / "dist").glob("*.whl")
    check_content(again)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as two:
        assert sorted(one.namelist()) == sorted(two.namelist())


def test_metadata_names_command_pythons_and_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = (name.removesuffix("METADATA") for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(f"{info}METADATA").decode())
        entries = archive.read(f"{info}entry_points.txt").decode().split()
    assert entries == ["[console_scripts]", "gan-train", "=", "gan_experiments.cli:main"]
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    assert metadata["License-Expression"] == "MIT" and metadata.get_payload()
    required = {distribution(line) for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert required == {distribution(line) for line in PROJECT["dependencies"]}


def test_the_installed_command_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    code = "import gan_experiments, sys, json; print(json.dumps([gan_experiments.__file__, sys.path]))"
    file, path = json.loads(python("-c", code, cwd=tmp_path, interpreter=installed / "python"))
    assert Path(file).is_relative_to(installed.parent)
    assert not any(Path(entry).resolve().is_relative_to(ROOT / "src") for entry in path if entry)
    shown = python("--cfg", "job", cwd=tmp_path, interpreter=installed / "gan-train")
    assert "gan_experiments.games.noise.NoiseGame" in shown
    assert "gan_experiments.objectives.adversarial.NonSaturating" in shown
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "overrides",
    [
        [line for line in TINY if not line.startswith("schedule.images")],
        ["metric=none", "logger=none", "samples.count=4"],
    ],
    ids=["points", "default images"],
)
def test_the_installed_command_trains(overrides: list[str], installed: Path, tmp_path: Path) -> None:
    steps = ["schedule.images=null", "schedule.steps=2", "runtime.threads=1", "run.dir=out"]
    python(*overrides, *steps, cwd=tmp_path, interpreter=installed / "gan-train")
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "completed"
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left >= {"config.json", "metrics.jsonl", "generator.pt", "checkpoints", "samples"}
    assert {path.name for path in tmp_path.iterdir()} - {"data"} == {"out"}  # data: what was kept of the reals


# imports


def distribution(requirement: str) -> str:
    """Normalised name at the beginning of a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@cache
def providers() -> dict[str, set[str]]:
    """Distributions of every importable top-level name."""
    return {module: {distribution(name) for name in names} for module, names in packages_distributions().items()}


def imports(folder: str, lazy: bool) -> set[str]:
    """Distributions that the modules below a folder import, at their head or (`lazy`) inside functions too."""
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree) if lazy else tree.body:
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{path}: relative import"
                modules.add(node.module.split(".")[0])
    folders = {"src": [], "scripts": ["scripts"], "tests": ["tests", "scripts"]}[folder]
    beside = {path.stem for name in folders for path in (ROOT / name).rglob("*.py")}
    foreign = modules - set(sys.stdlib_module_names) - beside - {"gan_experiments"}
    unknown = foreign - providers().keys()
    assert not unknown, f"{folder}: imports {unknown}, which no installed distribution has"
    return {name for module in foreign for name in providers()[module]}


def test_every_import_is_a_declared_dependency_and_every_dependency_is_imported() -> None:
    required = {distribution(line) for line in PROJECT["dependencies"]}
    optional = {distribution(line) for lines in PROJECT["optional-dependencies"].values() for line in lines}
    assert imports("src", lazy=False) <= required
    assert imports("src", lazy=True) <= required | optional
    assert required <= imports("src", lazy=True)
    assert imports("scripts", lazy=True) <= required | optional
    assert imports("tests", lazy=True) <= required | optional

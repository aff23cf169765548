"""README.md and docs/: commands would begin, links lead somewhere, what is generated is up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from contests import contest
from documented import BLOCK, ROOT, TEXTS, Typed, all_commands, commands, composed_job, script, try_out
from gan_experiments.composition import SEVERAL, options
from gan_experiments.config import conf_dir
from gan_experiments.errors import UserError
from gan_experiments.usage import sentence

CONF = Path(conf_dir())
README = TEXTS["README.md"]
ONCE = all_commands()
OWN = {"gan-train --config-dir own loss=hinge", "gan-train loss=mean_distance"}
"""Commands that need what their page has one write first."""
ADDED = "src/gan_experiments/objectives/mean_distance.py"
docs = script(ROOT / "scripts" / "build_docs.py")


def test_generated_parts_are_up_to_date() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in docs.stale(ROOT, [CONF])]
    assert not pages, f"run scripts/build_docs.py: {', '.join(pages)}"


def test_a_new_option_and_a_new_group_appear_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mean.yaml").write_text("# The mean of a_b < c. And more, by loss=hinge.\n_target_: a.B\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.yaml").write_text("# One of mine.\n{}\n")
    changed = {path.relative_to(ROOT).as_posix(): text for path, text in docs.stale(ROOT, [CONF, tmp_path]).items()}
    assert sorted(changed) == ["README.md", "docs/losses.md", "docs/mine.md"]
    assert "| [`mean`](#mean) | The mean of `a_b` \\< c |" in changed["docs/losses.md"]
    assert "### mean\n\nThe mean of `a_b` \\< c. And more, by `loss=hinge`.\n" in changed["docs/losses.md"]
    assert "```yaml\n_target_: a.B\n```" in changed["docs/losses.md"]
    assert "[`mine=`](docs/mine.md)" in changed["README.md"] and "### one" in changed["docs/mine.md"]


def test_a_page_out_of_date_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    for page, text in TEXTS.items():
        (tmp_path / page).write_text(text.replace("maximising log D(G(z))", "maximising D(G(z))"))
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().out == "docs/losses.md: out of date; run scripts/build_docs.py\n"
    assert docs.main([]) == 0 and (tmp_path / "docs" / "losses.md").read_text() == TEXTS["docs/losses.md"]
    assert docs.main(["--check"]) == 0


@pytest.mark.parametrize("command", ONCE, ids=str)
def test_every_command_would_begin(command: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if " ".join(command.words) not in OWN:
        try_out(command.words)


@pytest.mark.parametrize(
    "line",
    [
        "gan-train los=hinge", "gan-train loss=hing", "gan-train run.sede=1", "gan-train regularizer=[r1,r3]",
        "gan-train regularizer.r1.weight=1", "gan-train -m loss=hinge,hing", "gan-train --hepl", "gan-train --help los",
        "gan-train loss=hinge trick=label_smoothing", "gan-train model.generator.widht=3", "gan-train dataset=folder",
        "python scripts/sample.py RUN --cuont 64", "python scripts/sample.py RUN --plane",
        "python scripts/sampel.py RUN",
        "python scripts/evaluate.py RUN --metric fidd", "python scripts/evaluate.py x.npz dataset.sice=3",
        "python scripts/reproduce/seeds.py --dir x --sedes 3", "python scripts/reproduce/speed.py los=hinge",
        "python scripts/compare.py", "make trian",
    ],
)  # fmt: skip
def test_a_misspelt_command_is_noticed(line: str) -> None:
    (command,) = commands("page", f"```\n{line}    # as one types it\n```\n")
    with pytest.raises((AssertionError, HydraException, OmegaConfBaseException, UserError, FileNotFoundError)):
        try_out(command.words)


def test_commands_are_found_in_blocks_and_sentences() -> None:
    text = (
        "Say `gan-train a=1`.\n\n```\ngan-train b=2 \\\n  c=3   # why\nmake x\n```\n\n```shell\npip y\n```\n`gan-train`"
    )
    assert [" ".join(command.words) for command in commands("", text)] == [
        "gan-train b=2 c=3",
        "make x",
        "gan-train a=1",
    ]
    with pytest.raises(AssertionError):
        list(commands("", "```text\ngan-train a=1\n```\n"))
    assert len(ONCE) > 100


def test_names_of_options_in_sentences_exist() -> None:
    own = {f"loss={name}" for name in ("mean_distance",)}
    for page, text in TEXTS.items():
        for code in re.findall(r"`'?(\w+=\[?[\w,]+\]?)'?`", BLOCK.sub("", text)):
            group, _, value = code.partition("=")
            known = options([CONF], group)
            unknown = [name for name in value.strip("[]").split(",") if known and name not in known]
            assert not unknown or code in own, f"{page}: {code}"
            assert not known or "," not in value or group in SEVERAL, f"{page}: {code}"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", TEXTS)
def test_links_pictures_and_paths_lead_somewhere(page: str) -> None:
    text = BLOCK.sub("", TEXTS[page])
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)), f"{page}: {target}"
    for path in re.findall(r"`((?:src|conf|scripts|tests|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or "mean_distance" in path, f"{page}: {path}"


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len(README.splitlines()) < 220
    assert all(f"]({page})" in README for page in TEXTS if page != "README.md")


def test_errors_in_troubleshooting_are_ours() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    said = re.findall(r"^\| `([^`]+)` \|", TEXTS["docs/troubleshooting.md"].partition("## Errors")[2], re.MULTILINE)
    assert len(said) >= 10 and [text for text in said if text not in source] == []


def test_the_loss_of_the_readme_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as the README says, with its formula on the numbers that it gives."""
    pattern = re.compile(r"`(\S+mean_distance\.\w+)`[^`]*\n\n```(?:python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    blocks = dict(pattern.findall(README))
    assert [*blocks] == [ADDED, "conf/loss/mean_distance.yaml"]
    for name, content in blocks.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    assert sentence(tmp_path / "conf/loss/mean_distance.yaml") == "MMD with a linear kernel (Li et al. 2017)"
    package = sys.modules["gan_experiments.objectives"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "src/gan_experiments/objectives")])
    with pytest.raises(HydraException):
        composed_job(("loss=mean_distance",))
    config = composed_job(("loss=mean_distance", f"hydra.searchpath=[file://{tmp_path / 'conf'}]"))
    from gan_experiments.config import build

    loss = build(config.loss, "loss")
    given = contest(torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0]))
    assert float(loss.discriminator(given)) == -1 and float(loss.generator(given)) == 1
    monkeypatch.delitem(sys.modules, "gan_experiments.objectives.mean_distance")

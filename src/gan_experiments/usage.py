"""What `gan-train --help` says: the groups and options on disk, the most wanted keys, examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TEXT = """\
gan-train: GAN experiments from the command line

gan-train [group=option ...] [key=value ...]      composes these groups into one run:

{groups}
Lists may be chosen from regularizer, conditioning, trick, metric and extractor: regularizer=[r1,r2]; `none` is an
option of each.

Tricks
{tricks}

Conditionings (one for the generator, one for the discriminator: conditioning=[batch_norm,projection])
{conditionings}

Keys                     gan-train --cfg job           prints all of them as a command would use them
  run.dir=outputs/mine   names the run; the same command again continues it
  run.seed=1             another run of the same kind
  schedule.images=1000000    the length, in real images seen (or schedule.steps)
  schedule.generator.optimizer.lr=2e-4    model.generator.width=48
  regularizer=[r1] regularizer.r1.weight=5 model.discriminator.norm=none

Examples
  gan-train                                                         clothes in a few minutes on any machine
  gan-train loss=hinge regularizer=none schedule=ttur run.seed=1
  gan-train loss=wasserstein regularizer=gradient_penalty schedule=wasserstein model.discriminator.norm=none
  gan-train experiment=grid                                         all 25 Gaussians of a grid, two minutes
  gan-train dataset=folder dataset.path=photos dataset.size=64 extractor=inception metric=[fid]
  gan-train trick=[label_smoothing,packing] trick.packing.size=3
  gan-train -m loss=nonsaturating,hinge,least_squares run.seed=0,1,2 run.dir=outputs/losses

Several values of a key need -m (a sweep). A shell completes options after: eval "$(gan-train -sc install=bash)"
"""


def help_text(folders: Sequence[Path]) -> str:
    """The help, listing the options of every group found in `folders` (Hydra's own listing takes a second)."""
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.glob("*/*.yaml"):
            groups.setdefault(path.parent.name, set()).add(path.stem)
    width = max(map(len, groups)) + 1
    lines = [f"  {name + ':':<{width}} {', '.join(sorted(options))}" for name, options in sorted(groups.items())]
    text = TEXT.replace("{groups}", "\n".join(lines))
    for kind in ("trick", "conditioning"):
        text = text.replace(f"{{{kind}s}}", "\n".join(descriptions(folders, kind)))
    return text


def descriptions(folders: Sequence[Path], group: str) -> list[str]:
    """A line for each option of a group: its name and what the comment `# name: ...` at the top of its file says."""
    found = {path.stem: path for folder in reversed(folders) for path in (folder / group).glob("*.yaml")}
    width = max(map(len, found), default=0) + 1
    lines = []
    for name, path in sorted(found.items()):
        for line in path.read_text(encoding="utf-8").splitlines()[:3]:
            if line.startswith(f"# {name}: "):
                lines.append(f"  {name:<{width}} {line.removeprefix(f'# {name}: ')}")
    return lines

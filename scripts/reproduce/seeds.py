"""The same run with several seeds: mean and standard deviation of its final scores, as a Markdown table.

python scripts/reproduce/seeds.py --seeds 3 --dir outputs/default logger=none
python scripts/reproduce/seeds.py --seeds 5 --dir outputs/hinge loss=hinge logger=none

Overrides go to gan-train as they are. Runs are kept in DIR/seed-0, seed-1 ...: given again, the command continues what
was interrupted and takes over what is complete. A run that failed, for example with NaN, is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from runs import Outcome, check_overrides, train

from gan_experiments.analysis.tables import markdown, number, summarize
from gan_experiments.console import Parser, check_folder, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import unequal


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each score any run has: mean ± standard deviation over the runs, floor, and how many failed."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.scores))
    rows = []
    for name in names:
        records = [outcome.scores.get(name) for outcome in outcomes]
        values = summarize([None if record is None else float(record["value"]) for record in records])
        there = [record for record in records if record is not None]
        floors = summarize([float(record["floor"]) for record in there])
        counts = f" (n {there[0]['n_floor']:,})" if any(map(unequal, there)) else ""
        rows.append([name, str(values), number(floors.mean) + counts, str(values.n), str(values.failed)])
    if not rows:
        raise UserError(f"none of {len(outcomes)} runs has scores: {next((o.failure for o in outcomes), '')}")
    return markdown(["score", "mean ± sd", "held-out real", "runs", "failed"], rows)


def main() -> None:
    """Run all seeds, one after the other, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 (%(default)s)")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the runs")
    arguments, overrides = parser.parse_known_args()
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: must be 1 or more")
    check_overrides(overrides, ["run.seed", "run.dir"])
    check_folder(arguments.dir, "--dir")
    outcomes = []
    for seed in range(arguments.seeds):
        outcomes.append(train(arguments.dir / f"seed-{seed}", [*overrides, f"run.seed={seed}"]))
        if outcomes[-1].failure:
            print(f"seed {seed} failed: {outcomes[-1].failure}", file=sys.stderr)
    print(table(outcomes))


if __name__ == "__main__":
    run_command(main, "interrupted; the same command continues")

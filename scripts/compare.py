"""Do settings differ by more than chance? Tests and intervals over their seeds, never a single number.

python scripts/compare.py outputs/hinge outputs/wgan                 two folders of runs that differ by their seeds
python scripts/compare.py ours=outputs/a theirs=outputs/b --score kid --json comparison.json
python scripts/compare.py outputs/tricks --baseline none             every setting of a sweep against one of them
python scripts/compare.py base=run0 base=run1 new=run2 new=run3      single runs; equal labels are one setting

For every pair: the difference of the means with its 95 % interval (Welch), and p by a permutation test of the seeds,
corrected for the number of pairs (Holm). Runs that didn't end well are counted, not averaged. Scores that weren't made
alike (other data, extractor, numbers of samples) aren't compared; the exit code is then 1. Reads records only.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from gan_experiments.analysis import naming
from gan_experiments.analysis.comparison import Contrast, contrasts, lasts, read_settings
from gan_experiments.analysis.significance import ALPHA
from gan_experiments.analysis.sweep import UNFINISHED, Setting, main_scores, spell_samples
from gan_experiments.analysis.tables import markdown, number
from gan_experiments.console import Parser, check_file, run_command, write_file
from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json
from gan_experiments.logging.status import State
from gan_experiments.metrics import intervals

FEW = 10
"""How many differing keys are named."""


@final
class Comparison:
    """Settings, one score of theirs, and what it says of every pair."""

    def __init__(self, arguments: Sequence[str], score: str | None, baseline: str | None) -> None:
        """Read all runs; UserError for a score or a baseline that there isn't."""
        self.settings = read_settings(arguments)
        there = list(dict.fromkeys(name for s in self.settings for run in s.runs for name in run.scores))
        if score is not None and score not in there:
            raise UserError(f"--score {score}: no run has it; there is {', '.join(there) or 'none'}")
        if not there:
            raise UserError(f"{arguments[0]}: no run has any score yet; let them finish, or score them by evaluate.py")
        self.score = score or next(iter(main_scores(self.settings)), there[0])
        names = [setting.label for setting in self.settings]
        if baseline is not None and baseline not in names:
            raise UserError(f"--baseline {baseline}: no such setting; there is {'; '.join(names)}")
        self.baseline = next((setting for setting in self.settings if setting.label == baseline), None)
        self.contrasts = contrasts(self.settings, self.score, self.baseline)
        self.higher = self.contrasts[0].higher_is_better

    @property
    def refused(self) -> list[Contrast]:
        """The pairs whose scores don't compare."""
        return [contrast for contrast in self.contrasts if contrast.refused]

    def table(self) -> str:
        """A row a setting."""
        score = f"{self.score} {'↑' if self.higher else '↓'}"
        header = ["setting", score, "95 % interval", "one run's samples", "real", "seeds"]
        header += ["failed", "unfinished", "images"]
        return markdown(header, [self.row(setting) for setting in self.settings])

    def row(self, setting: Setting) -> list[str]:
        """Mean, interval over seeds, sampling error of a single run, floor, numbers of runs, and images seen."""
        low, high = interval(setting, self.score) or (None, None)
        within = within_run(setting, self.score)
        images = sorted({run.images for run in setting.counted})
        return [
            setting.label,
            number(setting.last(self.score).mean),
            "-" if low is None else f"{number(low)} to {number(high)}",
            "-" if within is None else f"± {within:.2g}",
            setting.spell_floor(self.score),
            str(len(lasts(setting, self.score))),
            str(setting.number_of(State.FAILED)),
            str(setting.number_of(*UNFINISHED)),
            " to ".join(f"{count:,}" for count in dict.fromkeys((images[0], images[-1]))) if images else "-",
        ]

    def notes(self) -> list[str]:
        """What the words mean, and what else is to be known."""
        lines = [
            "95 % interval: of the mean over seeds (Student's t); of a difference: Welch's.",
            "one run's samples: half-width of a run's own 95 % interval; says nothing of other seeds.",
            f"p: permutation test of the seeds; below {ALPHA:g} is called a difference.",
        ]
        lines += spell_samples(self.settings, self.score)
        known = [[run.config for run in setting.runs if run.config is not None] for setting in self.settings]
        if keys := naming.differing_keys([naming.setting(configs[0]) for configs in known if configs]):
            more = f" and {len(keys) - FEW} more keys" if len(keys) > FEW else ""
            lines.append(f"Settings differ in {', '.join(keys[:FEW])}{more}.")
        return lines

    def to_record(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "score": self.score,
            "higher_is_better": self.higher,
            "settings": [self.setting_record(setting) for setting in self.settings],
            "pairs": [contrast_record(contrast) for contrast in self.contrasts],
        }

    def setting_record(self, setting: Setting) -> dict[str, Any]:
        """A setting with its values and its runs' own intervals as plain values."""
        counted = [run for run in setting.counted if self.score in run.scores]
        runs = [
            {"directory": str(run.path), "seed": run.seed, "value": run.scores[self.score].last,
             "interval": run.scores[self.score].interval, "interval_from": run.scores[self.score].interval_from}
            for run in counted
        ]  # fmt: skip
        last = setting.last(self.score)
        return {
            "label": setting.label, "mean": last.mean, "sd": last.sd, "interval": interval(setting, self.score),
            "seeds": len(counted), "failed": setting.number_of(State.FAILED),
            "unfinished": setting.number_of(*UNFINISHED), "real": setting.floor(self.score).mean, "runs": runs,
        }  # fmt: skip


def interval(setting: Setting, score: str) -> tuple[float, float] | None:
    """The 95 % interval of the mean over seeds; None for fewer than two."""
    values = lasts(setting, score)
    return intervals.of_mean(values) if len(values) > 1 else None


def within_run(setting: Setting, score: str) -> float | None:
    """The mean half-width of the runs' own intervals, where their scores have any."""
    found = [run.scores[score].interval for run in setting.counted if score in run.scores]
    widths = [(high - low) / 2 for low, high in (pair for pair in found if pair is not None)]
    return statistics.fmean(widths) if widths else None


def contrast_record(contrast: Contrast) -> dict[str, Any]:
    """A pair as plain values."""
    test = contrast.test
    return {
        "a": contrast.a.label, "b": contrast.b.label, "outcome": contrast.outcome, "says": str(contrast),
        "b_minus_a": contrast.difference, "interval": contrast.interval, "p": None if test is None else test.p,
        "p_corrected": contrast.corrected, "p_reachable": contrast.reachable, "pairs": contrast.pairs,
        "splits": None if test is None else test.splits, "exact": None if test is None else test.exact,
    }  # fmt: skip


def main() -> int:
    """Print table and verdicts, write the numbers, and return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("places", nargs="+", metavar="[LABEL=]PATH", help="a run, or a folder of runs")
    parser.add_argument("--score", metavar="NAME", help="which score (the first of the runs' metrics)")
    parser.add_argument("--baseline", metavar="LABEL", help="compare the others with this setting only")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers here")
    arguments = parser.parse_args()
    check_file(arguments.json, "--json")
    comparison = Comparison(arguments.places, arguments.score, arguments.baseline)
    if arguments.json:
        write_file(arguments.json, strict_json.dumps(comparison.to_record(), indent=2) + "\n")
    print(f"{comparison.table()}\n")
    print("\n".join(map(str, comparison.contrasts)))
    print("\n" + "\n".join(f"- {note}" for note in comparison.notes()))
    return 1 if comparison.refused else 0


if __name__ == "__main__":
    run_command(main)

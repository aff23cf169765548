"""How every metric moves on sets of real and spoilt images whose quality is known.

python scripts/reproduce/sanity.py --data data --count 10000 --metric full labelled --json sanity.json
python scripts/reproduce/sanity.py --dataset fashion10k --count 2000 --metric fast            # smaller, embedded images

Reals are COUNT training images; the floor is that of as many held-out ones. Columns: fresh images of the same
distribution (a perfect generator), the training images themselves, these with noise of two grey levels, blurred ones,
half of the classes only, one image repeated, uniform noise.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from gan_experiments.analysis.tables import markdown, number
from gan_experiments.console import Parser, check_file, run_command, write_file
from gan_experiments.logging.score_counts import unequal


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--dataset", default="fashion_mnist", help="name of a conf/dataset option with classes")
    parser.add_argument("--data", default="data", help="folder of data sets and caches")
    parser.add_argument("--count", type=int, default=10_000, help="images a side")
    parser.add_argument("--metric", nargs="+", default=["full", "labelled"], help="names of conf/metric options")
    parser.add_argument("--extractor", nargs="+", default=["classifier"], help="names of conf/extractor options")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all records here")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The records of all scores, by set and name."""
    from gan_experiments.analysis.sanity import Bench
    from gan_experiments.config import build, build_named, compose_option
    from gan_experiments.metrics.evaluator import Evaluator

    def options(group: str, names: list[str]) -> dict[str, Any]:
        return {key: node for name in names for key, node in compose_option(group, name, arguments.data).items()}

    bench = Bench(build(compose_option("dataset", arguments.dataset, arguments.data), "dataset"), arguments.count)
    sources = build_named(options("extractor", arguments.extractor), "extractor")
    evaluator = Evaluator(
        bench.data,
        {name: source.build(bench.data) for name, source in sources.items()},
        build_named(options("metric", arguments.metric), "metric"),
        arguments.count,
        seed=arguments.seed,
    )
    records = {}
    for name, images in bench.sets().items():
        logging.info("%s", name)
        scores = evaluator.evaluate(images, "none", 0, 0)
        records[name] = {key: score.to_record() for key, score in scores.items()}
    return records


def spell_floor(record: dict[str, Any]) -> str:
    """What held-out images get, with their number where it isn't that of the images scored."""
    return number(record["floor"]) + (f" (n {record['n_floor']:,})" if unequal(record) else "")


def table(records: dict[str, dict[str, Any]]) -> str:
    """A row a score: held-out images, then every set."""
    first = next(iter(records.values()))
    rows = [
        [f"{name} {'↑' if first[name]['higher_is_better'] else '↓'}", spell_floor(first[name])]
        + [number(scores[name]["value"]) if name in scores else "-" for scores in records.values()]
        for name in first
    ]
    return markdown(["score", "held-out", *records], rows)


def main() -> None:
    """Print the table and, if asked, write the records."""
    arguments = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_file(arguments.json, "--json")
    records = measure(arguments)
    print(table(records))
    if arguments.json:
        write_file(arguments.json, json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)

"""Score a run's generator with any metrics; needs only the run's directory (and its data).

python scripts/evaluate.py RUN                                 the run's own metrics
python scripts/evaluate.py RUN --metric fid kid --samples 5000
python scripts/evaluate.py RUN --extractor inception --seed 1 --raw --json scores.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gan_experiments.errors import UserError


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a run")
    parser.add_argument("--metric", nargs="+", help="names of conf/metric options (those of the run)")
    parser.add_argument("--extractor", help="name of a conf/extractor option (that of the run)")
    parser.add_argument("--samples", type=int, help="number of generated samples (as in the run)")
    parser.add_argument("--seed", type=int, help="of the latents (as in the run)")
    parser.add_argument("--raw", action="store_true", help="live weights rather than their moving average")
    parser.add_argument("--json", type=Path, help="write the scores' full records here")
    return parser.parse_args()


def chosen_groups(arguments: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    """The run's configuration with metric and extractor replaced where the command line says so."""
    from gan_experiments.config import compose_option

    result = dict(config)
    data = config["run"]["data"]
    if arguments.metric:
        result["metric"] = {}
        for name in arguments.metric:
            result["metric"] |= compose_option("metric", name, data)
    if arguments.extractor:
        result["extractor"] = compose_option("extractor", arguments.extractor, data)
    result["evaluation"] = {**config["evaluation"]}
    if arguments.samples is not None:
        result["evaluation"]["samples"] = arguments.samples
    result["run"] = {**config["run"], "objective": None}
    if arguments.seed is not None:
        result["run"]["seed"] = arguments.seed
    return result


def main() -> None:
    """Print a table of scores and, if asked, write their records."""
    arguments = parse()
    from omegaconf import OmegaConf

    from gan_experiments.config import build, typed
    from gan_experiments.experiment import build_evaluator
    from gan_experiments.inference import load_generator
    from gan_experiments.rundir import read_config
    from gan_experiments.runtime import applied

    trained = load_generator(arguments.run, arguments.raw)
    settings = typed(OmegaConf.create(chosen_groups(arguments, read_config(arguments.run))))
    with applied(trained.runtime):
        evaluator = build_evaluator(settings, build(settings.dataset, "dataset"), trained.runtime)
        scores = evaluator.evaluate(trained.draw, trained.weights, trained.images, trained.step)
    print(f"{arguments.run}: {trained.weights} weights after {trained.images:,} images")
    print(f"{'score':<20}{'value':>12}{'held-out real':>16}{'real / fake':>18}  extractor")
    for name, score in scores.items():
        counts = f"{score.n_real} / {score.n_fake}"
        print(
            f"{name:<20}{score.value:>12.5g}{score.floor:>16.5g}{counts:>18}  {score.extractor} "
            f"{score.extractor_sha256[:8]}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({name: s.to_record() for name, s in scores.items()}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"evaluate: {error}")

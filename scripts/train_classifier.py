"""Train the classifier that scores Fashion-MNIST offline, and write its weights with a card of facts beside them.

    python scripts/train_classifier.py DATA_ROOT [--output FILE]

Fashion-MNIST is looked for in DATA_ROOT, then in Debian's package dataset-fashion-mnist, else downloaded to DATA_ROOT.
Seeded and on one thread: the same machine writes the same bytes again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save

from gan_experiments.console import Parser, check_file, run_command
from gan_experiments.data.base import Dataset
from gan_experiments.data.mnist import fashion_mnist
from gan_experiments.logging.progress import stages
from gan_experiments.metrics.classifier import Classifier, accuracy, train_classifier
from gan_experiments.metrics.classifier_extractor import gather

STEPS = 2808
SEED = 0
OUTPUT = Path(__file__).parent.parent / "src" / "gan_experiments" / "assets" / "fashion_classifier.safetensors"


def write(net: Classifier, dataset: Dataset, output: Path) -> dict[str, object]:
    """Write the weights and, as .json, their card: hash, shape, classes, accuracy, data, command; return the card."""
    content = save(net.state_dict())
    card: dict[str, object] = {
        "file": output.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "shape": dataset.spec.shape,
        "classes": dataset.spec.classes,
        "held_out_accuracy": accuracy(net, *gather(dataset.held_out)),
        "held_out_images": len(dataset.held_out),
        "training_images": len(dataset.train),
        "data": f"Fashion-MNIST, official training images, {dataset.transform}",
        "data_fingerprint": dataset.fingerprint,
        "steps": STEPS,
        "batch_size": 128,
        "seed": SEED,
        "torch": torch.__version__,
        "command": "python scripts/train_classifier.py DATA_ROOT",
    }
    output.write_bytes(content)
    output.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def main() -> None:
    """Command line: see the module's text."""
    parser = Parser(description=__doc__)
    parser.add_argument("root", help="folder that holds Fashion-MNIST, or will")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    check_file(arguments.output, "--output")
    torch.set_num_threads(1)
    dataset = fashion_mnist(arguments.root)
    images, labels = gather(dataset.train)
    with stages("steps") as tell:
        net = train_classifier(images, labels, len(dataset.spec.classes), steps=STEPS, seed=SEED, tell=tell)
    card = write(net, dataset, arguments.output)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {size:,} bytes, held-out accuracy {card['held_out_accuracy']}")


if __name__ == "__main__":
    run_command(main)

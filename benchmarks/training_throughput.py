"""Training and feature extraction as the stages do them, against loops that one would write by hand.

All run the same network on batches of the same size from the same images, in turns in one process. The bare
loops hold their images in memory, know nothing of sample ids, count no losses, check nothing and write nothing.

    python -m benchmarks.training_throughput
    python -m benchmarks.training_throughput --backbone vgg16 --size 224 --samples 512 --device cuda
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import stages.command.stage  # noqa: F401  sets what cuBLAS needs to be deterministic
from benchmarks.measure import Row, compare, take_turns, write_result
from stages.core.augmentation import Augmentation
from stages.core.batches import EpochBatches, TrainingSet
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.optimizers import Adam
from stages.core.targets import Targets
from stages.core.training import (
    choose_device,
    normalise_features,
    place_network,
    predict_batches,
    prepare_torch,
    train_pass,
)
from stages.storage.contracts import FEATURES
from stages.storage.tables import Provenance, open_writer

CLASSES = {"expression": [f"expression {k}" for k in range(7)], "pose": [f"pose {k}" for k in range(5)]}
TASK = "pose"
GOAL = 0.95
"""Of the bare loop's samples per second."""


def build(backbone: str, size: int, device: torch.device) -> MultiTaskNetwork:
    """The same network every time."""
    torch.manual_seed(0)
    specification = NetworkSpecification(backbone, (size, size, 3), 128, CLASSES, 0.9, [0.5] * 3, [0.5] * 3)
    return place_network(MultiTaskNetwork(specification), device)


def train_bare(images: torch.Tensor, targets: dict, batch_size: int, backbone: str, device: torch.device) -> float:
    """Seconds of the loop that one would write by hand, for a pass over images, uint8 (n, C, H, W)."""
    network = build(backbone, images.shape[-1], device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    order = torch.randperm(len(images))
    start = time.perf_counter()
    for rows in order.split(batch_size):
        batch = images[rows].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            scores = network(batch)
        loss = sum(functional.cross_entropy(scores[task].float(), targets[task][rows].to(device)) for task in targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    loss.item()
    return time.perf_counter() - start


def train_stage(training_set: TrainingSet, batch_size: int, backbone: str, device: torch.device, workers: int) -> float:
    """Seconds of the pipeline's loop for the same pass, from a memory map."""
    network = build(backbone, training_set.images.shape[1], device)
    optimizer = Adam(network, 1e-4)
    batches = EpochBatches(
        [training_set], batch_size=batch_size, augmentation=Augmentation(), order_seed=0, augmentation_seed=0
    )
    start = time.perf_counter()
    train_pass(network, optimizer, batches.load(workers, pin_memory=device.type == "cuda"), device)
    return time.perf_counter() - start


def extract_bare(network: MultiTaskNetwork, images: torch.Tensor, batch_size: int, device: torch.device) -> None:
    """Features and soft labels of images, uint8 (n, C, H, W), by hand."""
    network.eval()
    with torch.inference_mode():
        for batch in images.split(batch_size):
            features, scores = network.extract(batch.to(device), [TASK])
            features[TASK].cpu().numpy()
            torch.softmax(scores[TASK], dim=1).cpu().numpy()


def extract_stage(network: MultiTaskNetwork, images: np.ndarray, batch_size: int, device: torch.device) -> None:
    """The same by the pipeline's loop, from a memory map."""
    for _, features, _ in predict_batches(network, images, batch_size=batch_size, device=device, tasks=[TASK]):
        normalise_features(features[TASK], "l2")


def extract_table(
    path: Path, network: MultiTaskNetwork, images: np.ndarray, batch_size: int, device: torch.device
) -> None:
    """The same, with the table that `extract_features` writes."""
    metadata = {"dataset": "bench", "dim": 128, "dtype": "float32", "normalize": "l2", "classes": {TASK: CLASSES[TASK]}}
    provenance = Provenance("extract_features", {}, [])
    with open_writer(path, FEATURES, metadata=metadata, provenance=provenance) as writer:
        for rows, features, soft in predict_batches(
            network, images, batch_size=batch_size, device=device, tasks=[TASK]
        ):
            writer.write(
                {
                    "sample_id": np.arange(rows.start, rows.stop),
                    f"features_{TASK}": normalise_features(features[TASK], "l2"),
                    f"soft_label_{TASK}": soft[TASK],
                    f"label_{TASK}": np.full(rows.stop - rows.start, -1, dtype=np.int32),
                }
            )


def measure(options: argparse.Namespace) -> tuple[list[Row], dict[str, list[float]]]:
    """The rows, and the seconds behind them."""
    prepare_torch(options.threads, seed=0)
    device = choose_device(options.device)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (options.samples, options.size, options.size, 3), dtype=np.uint8)
    labels = {
        task: rng.dirichlet(np.ones(len(names)), options.samples).astype(np.float32) for task, names in CLASSES.items()
    }
    tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    targets = {task: torch.from_numpy(values) for task, values in labels.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", pixels)
        images = np.load(folder / "images.npy", mmap_mode="r")
        found = {task: Targets.for_all(vectors, given=task == "expression") for task, vectors in labels.items()}
        training_set = TrainingSet(images, np.arange(options.samples), found)
        network = build(options.backbone, options.size, device)
        of_extraction = options.extraction_batch_size, device
        ways: dict[str, Callable] = {
            "bare training": lambda: train_bare(tensors, targets, options.batch_size, options.backbone, device),
            "training": lambda: train_stage(
                training_set, options.batch_size, options.backbone, device, options.workers
            ),
            "bare extraction": lambda: extract_bare(network, tensors, *of_extraction),
            "extraction": lambda: extract_stage(network, images, *of_extraction),
            "extraction with its table": lambda: extract_table(
                folder / "features.parquet", network, images, *of_extraction
            ),
        }
        seconds = take_turns(ways, options.repeats)
    size = f"{options.samples:,} images of {options.size} pixels, {options.backbone}, {device.type}"
    goal = {"at_most": 1 / GOAL, "goal": f"at least {GOAL:.0%} of its samples per second"}
    rows = [
        compare(
            f"{what}, {size}, batches of {batch_size}, {options.threads} threads",
            seconds[what],
            seconds[f"bare {what.split()[0]}"],
            name="bare loop",
            **goal,
        )
        for what, batch_size in (
            ("training", options.batch_size),
            ("extraction", options.extraction_batch_size),
            ("extraction with its table", options.extraction_batch_size),
        )
    ]
    return rows, seconds


def make_parser() -> argparse.ArgumentParser:
    """The options, with which a test measures less."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vgg_tiny")
    parser.add_argument("--size", type=int, default=48, help="height and width in pixels")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--extraction-batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="turns that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser


def main() -> None:
    """Print a row for each."""
    rows, seconds = measure(make_parser().parse_args())
    write_result("training_throughput", rows, seconds=seconds)


if __name__ == "__main__":
    main()

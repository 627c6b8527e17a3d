"""Training throughput of `train_epoch`'s loop against a bare PyTorch loop.

Both train the same network on batches of the same size from the same images, in turns in one
process; the figure is the median of the ratios, because machines drift. The bare loop holds its
images in memory, knows nothing of sample ids, counts no losses and checks nothing.

    python -m benchmarks.training_throughput
    python -m benchmarks.training_throughput --backbone vgg16 --size 224 --samples 512 --device cuda
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import stages.command.stage  # noqa: F401  sets what cuBLAS needs to be deterministic
from stages.core.augmentation import Augmentation
from stages.core.batches import EpochBatches, Targets, TrainingSet
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.optimizers import Adam
from stages.core.training import choose_device, place_network, prepare_torch, train_pass

CLASSES = {"expression": [f"expression {k}" for k in range(7)], "pose": [f"pose {k}" for k in range(5)]}


def build(backbone: str, size: int, device: torch.device) -> MultiTaskNetwork:
    """The same network every time."""
    torch.manual_seed(0)
    specification = NetworkSpecification(backbone, (size, size, 3), 128, CLASSES, 0.9, [0.5] * 3, [0.5] * 3)
    return place_network(MultiTaskNetwork(specification), device)


def train_bare(images: torch.Tensor, targets: dict, batch_size: int, backbone: str, device: torch.device) -> float:
    """Samples per second of the loop that one would write by hand."""
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
    return len(images) / (time.perf_counter() - start)


def train_stage(training_set: TrainingSet, batch_size: int, backbone: str, device: torch.device, workers: int) -> float:
    """Samples per second of the pipeline's loop, from a memory map."""
    network = build(backbone, training_set.images.shape[1], device)
    optimizer = Adam(network, 1e-4)
    batches = EpochBatches(
        [training_set], batch_size=batch_size, augmentation=Augmentation(), order_seed=0, augmentation_seed=0
    )
    start = time.perf_counter()
    train_pass(network, optimizer, batches.load(workers, pin_memory=device.type == "cuda"), device)
    return batches.n_samples / (time.perf_counter() - start)


def main() -> None:
    """Print samples per second of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vgg_tiny")
    parser.add_argument("--size", type=int, default=48, help="height and width in pixels")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    prepare_torch(options.threads, seed=0)
    device = choose_device(options.device)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (options.samples, options.size, options.size, 3), dtype=np.uint8)
    labels = {
        task: rng.dirichlet(np.ones(len(names)), options.samples).astype(np.float32) for task, names in CLASSES.items()
    }
    tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    targets = {task: torch.from_numpy(values) for task, values in labels.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, pixels)
        found = {task: Targets.for_all(vectors, given=task == "expression") for task, vectors in labels.items()}
        training_set = TrainingSet(np.load(path, mmap_mode="r"), np.arange(options.samples), found)
        bare, stage = [], []
        for _ in range(options.repeats + 1):
            bare.append(train_bare(tensors, targets, options.batch_size, options.backbone, device))
            stage.append(train_stage(training_set, options.batch_size, options.backbone, device, options.workers))
    ratios = [ours / reference for ours, reference in zip(stage[1:], bare[1:], strict=True)]
    print(
        f"{options.backbone}, {options.size}x{options.size}, batch {options.batch_size}, {device.type}, "
        f"{options.threads} threads, {options.repeats} pairs after one warm-up"
    )
    print(f"bare loop    {statistics.median(bare[1:]):8.0f} samples/s (median)")
    print(f"train_epoch  {statistics.median(stage[1:]):8.0f} samples/s (median)")
    print(f"ratio        {statistics.median(ratios):8.2f} (from {min(ratios):.2f} to {max(ratios):.2f}; budget 0.90)")


if __name__ == "__main__":
    main()

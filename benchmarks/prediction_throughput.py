"""Prediction on folders of JPEG files: images per second, and whether memory grows with their number.

Writes faces drawn by code as JPEG files of --size pixels, makes a network with random weights, and
runs `python -m stages.tools.predict_images` on a tenth of the files and on all of them, each as a process of its own.

    python -m benchmarks.prediction_throughput
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.storage.checkpoints import save_network


def write_images(folder: Path, n_images: int, size: int) -> None:
    """Smooth random colours, which compress about as photographs do, in folders of a thousand."""
    rng = np.random.default_rng(0)
    for number in range(n_images):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path, quality=90)


def write_network(path: Path, backbone: str, size: int) -> None:
    """Two tasks, seven and five classes."""
    torch.manual_seed(0)
    classes = {"expression": [f"e{k}" for k in range(7)], "pose": [f"p{k}" for k in range(5)]}
    specification = NetworkSpecification(backbone, (size, size, 3), 128, classes, 0.9, [0.5] * 3, [0.5] * 3)
    save_network(path, MultiTaskNetwork(specification))


def predict(folder: Path, network: Path, images: Path, *options: str) -> tuple[float, float]:
    """Wall seconds, and the peak gigabytes of the process or, if it had more, of a decoding process."""
    command = [sys.executable, "-m", "stages.tools.predict_images", "--network", network, "--images", images]
    command += ["--output", folder / "predictions.parquet", *options]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("predict failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def main() -> None:
    """Print a row per number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=200, help="of the files, in pixels")
    parser.add_argument("--network-size", type=int, default=48, help="of the network's images, in pixels")
    parser.add_argument("--backbone", default="vgg_tiny")
    parser.add_argument("--options", nargs="*", default=[], help="of predict, such as --options=--features")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = folder / "network.safetensors"
        write_network(network, options.backbone, options.network_size)
        print(f"{'images':>8} {'seconds':>8} {'per second':>11} {'peak GB':>8}")
        for n_images in (options.images // 10, options.images):
            images = folder / str(n_images)
            write_images(images, n_images, options.size)
            seconds, gigabytes = predict(folder, network, images, *options.options)
            print(f"{n_images:>8} {seconds:>8.1f} {n_images / seconds:>11.0f} {gigabytes:>8.3f}", flush=True)


if __name__ == "__main__":
    main()

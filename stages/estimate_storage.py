"""Say how much disk an experiment will take, and refuse to start where there is not that much."""

import json
import shutil
from pathlib import Path

from stages.command import run_stage, stage_parser
from stages.core.backbones import count_network_parameters
from stages.core.disk import estimate_disk, format_bytes
from stages.sources.registry import read_source


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, metavar="JSON", help="the checked experiment")
    parser.add_argument("--selections", type=json.loads, required=True, metavar="JSON", help="of the methods to run")
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="where the artifacts will lie")
    options = parser.parse_args(argv)
    settings = options.settings
    n_samples, n_classes = {}, {}
    for name, dataset in settings["datasets"].items():
        samples = read_source(dataset, Path(settings["data_root"])).samples
        n_samples[name] = {split: sum(sample.split == split for sample in samples) for split in ("train", "test")}
        n_classes[name] = len({sample.label for sample in samples})
    images = settings["images"]
    image_shape = (images["height"], images["width"], images["channels"])
    head_features = settings["network"]["head_features"]
    parts = estimate_disk(
        n_samples,
        n_classes,
        image_shape=image_shape,
        head_features=head_features,
        n_parameters=count_network_parameters(settings["network"]["backbone"], image_shape, head_features, n_classes),
        n_components=settings["mixture"]["components"],
        n_epochs=settings["training"]["epochs"],
        n_seeds=len(settings["seeds"]),
        criteria=options.selections,
        keep_features=settings["storage"]["keep_features"],
    )
    present = sum(path.stat().st_size for path in options.results.rglob("*") if path.is_file())
    needed = max(0, sum(parts.values()) - present)
    existing = next(folder for folder in (options.results, *options.results.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise ValueError(
            f"{options.results}: this run needs about {format_bytes(needed)} more, but only {format_bytes(free)} are "
            f"free; free some space, lower training.epochs or set storage.keep_features to false "
            f"(features are {format_bytes(parts['features'])} of it)"
        )
    listed = ", ".join(f"{kind} {format_bytes(n_bytes)}" for kind, n_bytes in parts.items())
    print(
        f"{options.results}: will take about {format_bytes(sum(parts.values()))} ({listed}); {format_bytes(free)} free"
    )


if __name__ == "__main__":
    run_stage(main)

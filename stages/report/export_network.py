"""Write a finished network as ONNX, and check it against PyTorch on prepared images.

ONNX Runtime must give the same probabilities and features, in batches of one and of many; the report
says how large the largest difference is. A model that differs is not written.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.command.options import add_split_options, confirm_splits, open_splits
from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.storage.contracts import EXPORT
from stages.storage.files import digest_file, replace_when_complete, write_json
from stages.storage.tables import Provenance

TOLERANCE = 1e-3
"""Largest difference of a probability, or of a feature relative to the largest feature."""
BATCH_SIZE = 32
LARGEST_MODEL = 2_000_000_000
"""Bytes; ONNX files are protocol buffers."""


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__,
        example="mtl-sa export --network network.safetensors --metrics metrics.parquet --tables data/faces/test.parquet"
        " --images data/faces/test.npy --output-model network.onnx --output-report export.json",
    )
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="network.safetensors of a run")
    parser.add_argument("--metrics", required=True, metavar="PARQUET", help="metrics.parquet of that run")
    add_split_options(parser)
    parser.add_argument("--n-images", type=int, default=200, help="of every split, to check the model on")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, which the model is compared with")
    parser.add_argument("--output-model", required=True, metavar="ONNX")
    parser.add_argument("--output-report", required=True, metavar="JSON", help="what the check found")
    options = parser.parse_args(argv)
    from stages.storage.checkpoints import load_network

    splits = open_splits(options)
    network = load_network(options.network, splits, options.metrics)
    n_bytes = sum(value.nbytes for value in network.state_dict().values())
    if n_bytes > LARGEST_MODEL:
        raise UserError(f"{options.network}: has {n_bytes} bytes of weights, but an ONNX file holds {LARGEST_MODEL}")
    import onnx
    import onnxruntime
    import torch

    from stages.report.onnx_model import INPUT, convert_network, name_outputs

    torch.set_num_threads(options.threads)
    model = convert_network(network)
    onnx.checker.check_model(model, full_check=True)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options, providers=["CPUExecutionProvider"]
    )
    names = name_outputs(network.specification.tasks)
    differences = dict.fromkeys(names, 0.0)
    n_images = 0
    for images in choose_batches([split.images for split in splits], options.n_images):
        found = session.run(names, {INPUT: images})
        with torch.inference_mode():
            features, scores = network.eval().extract(torch.from_numpy(images))
        expected = [*(torch.softmax(values, dim=1) for values in scores.values()), *features.values()]
        for name, one, other in zip(names, found, expected, strict=True):
            scale = 1 if name.startswith("probabilities") else max(1.0, float(other.abs().max()))
            differences[name] = max(differences[name], float(np.abs(one - other.numpy()).max()) / scale)
        n_images += len(images)
    worst = max(differences, key=differences.get)
    if not differences[worst] <= TOLERANCE:
        raise UserError(
            f"{options.network}: as ONNX its {worst} differ by {differences[worst]:g} on {n_images} images, more than "
            f"{TOLERANCE:g}; no model was written"
        )
    confirm_splits(splits)
    with replace_when_complete(options.output_model) as path_temporary:
        onnx.save(model, str(path_temporary))
    report = {
        "n_images": n_images,
        "maximum_difference": differences,
        "opset": model.opset_import[0].version,
        "n_bytes": Path(options.output_model).stat().st_size,
        "files": {Path(options.output_model).name: digest_file(options.output_model)},
    }
    provenance = Provenance(
        "export_network",
        {"n_images": options.n_images},
        [options.network, *options.tables],
        device="cpu",
        precision="float32",
        packages=("onnx", "onnxruntime"),
    )
    write_json(options.output_report, EXPORT, report, provenance)
    largest = f"{differences[worst]:.2g} ({worst})"
    print(f"{options.output_model}: largest difference from PyTorch on {n_images} images {largest}")


def choose_batches(splits: list[np.ndarray], n_images: int) -> Iterator[np.ndarray]:
    """Images spread over every split, as the model takes them: one by itself, then the others in batches.

    Args:
        splits: uint8 (n, H, W, C).
        n_images: of each at most.

    Yields:
        float32 (B, C, H, W).
    """
    for images in splits:
        rows = np.unique(np.linspace(0, len(images) - 1, min(n_images, len(images))).astype(int))
        for part in (rows[:1], *np.array_split(rows[1:], -(-len(rows[1:]) // BATCH_SIZE) or 1)):
            if len(part):
                yield np.ascontiguousarray(images[part].transpose(0, 3, 1, 2), dtype=np.float32)


if __name__ == "__main__":
    run_stage(main)

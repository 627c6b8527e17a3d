"""Check that every artifact is whole, keeps its contract and still belongs to its inputs.

Digests recorded in an artifact are compared with its inputs as they are now, those in a card with the
weights beside it. Features and responsibilities may have been deleted (storage.keep_features: false);
they are counted.
"""

import os
import sys
from pathlib import Path

from stages.command import run_stage, show_progress, stage_parser
from stages.core import contracts
from stages.storage.files import digest_file, read_json
from stages.storage.tables import read_table

CONTRACTS = {
    "data/*/*.parquet": contracts.MANIFEST,
    "**/features/*.parquet": contracts.FEATURES,
    "**/density.parquet": contracts.DENSITY,
    "**/mixture/*.parquet": contracts.MIXTURE,
    "**/responsibilities.parquet": contracts.RESPONSIBILITIES,
    "**/transport.parquet": contracts.TRANSPORT,
    "**/discrepancy.parquet": contracts.DISCREPANCY,
    "**/refinement.parquet": contracts.REFINEMENT,
    "**/weights.parquet": contracts.WEIGHTS,
    "**/labels.parquet": contracts.LABELS,
    "**/audit.parquet": contracts.AUDIT,
    "**/metrics.parquet": contracts.METRICS,
    "comparison.parquet": contracts.COMPARISON,
}
CARDS = {
    "**/checkpoint.json": contracts.CHECKPOINT,
    "**/metrics.json": contracts.EVALUATION,
    "**/export.json": contracts.EXPORT,
}


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("results", type=Path, metavar="DIR", help="folder of an experiment: results/<experiment>")
    options = parser.parse_args(argv)
    digests: dict[Path, str | None] = {}
    problems: list[str] = []
    tables = {path: contract for pattern, contract in CONTRACTS.items() for path in options.results.glob(pattern)}
    cards = {path: contract for pattern, contract in CARDS.items() for path in options.results.glob(pattern)}
    artifacts = sorted([*tables, *cards])
    if not artifacts:
        raise ValueError(f"{options.results}: holds no artifacts; name the folder of an experiment")
    n_gone = 0
    for path in show_progress(artifacts, description="verify", unit="artifact"):
        try:
            recorded = read_table(path, tables[path]).metadata if path in tables else read_json(path, cards[path])
        except ValueError as error:
            problems.append(str(error))
            continue
        inputs = {path.parent / name: digest for name, digest in recorded.get("inputs", {}).items()}
        inputs |= {path.parent / name: digest for name, digest in recorded.get("files", {}).items()}
        if "images_digest" in recorded:
            inputs[path.with_suffix(".npy")] = recorded["images_digest"]
        for source, digest in inputs.items():
            source = source.resolve()
            if source not in digests:
                digests[source] = digest_file(source) if source.exists() else None
            name = os.path.relpath(source, options.results.resolve())
            if digests[source] is None and (source.parent.name == "features" or source.stem == "responsibilities"):
                n_gone += 1
            elif digests[source] is None:
                problems.append(f"{path}: belongs to {name}, which is missing; run snakemake again")
            elif digests[source] != digest:
                problems.append(f"{path}: does not belong to {name} as it is now; delete both and run snakemake again")
    print(f"{len(artifacts)} artifacts, {n_gone} inputs no longer there, {len(problems)} problems")
    if problems:
        print("\n".join(problems), file=sys.stderr)
        raise ValueError(f"{options.results}: {len(problems)} of {len(artifacts)} artifacts have problems")


if __name__ == "__main__":
    run_stage(main)

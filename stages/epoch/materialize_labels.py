"""Weigh every unlabeled sample and write the label it will be trained on (sections 4.1 and 4.2).

Samples with a given label have no weight; among the labels they stand with their own. Tables of criteria
that the method does not use are left out.
"""

import json
from dataclasses import replace

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.core.selection import (
    ALIGNMENTS,
    DECAY_SCALES,
    INTERPOLATIONS,
    NORMALIZATIONS,
    Selection,
    align_labels,
    interpolate_labels,
    soften_labels,
    threshold_weights,
    weigh_samples,
)
from stages.storage.contracts import (
    DENSITY,
    DISCREPANCY,
    LABELS,
    REFINEMENT,
    RELIABILITY,
    RESPONSIBILITIES,
    TRANSPORT,
    WEIGHTS,
)
from stages.storage.domains import count_labels, read_domain
from stages.storage.files import read_json
from stages.storage.tables import Provenance, read_aligned, read_table, write_table

DISTANCES = {"emd": "transport_distance", "mean": "mean_distance", "mmd": "kernel_discrepancy"}
"""Column of the distance of every cluster, by the name that methods give it."""


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task to make labels for")
    parser.add_argument("--features", required=True, metavar="PARQUET", help="soft labels of the dataset being trained")
    parser.add_argument("--density", metavar="PARQUET", help="local densities, for the criterion density")
    parser.add_argument("--responsibilities", metavar="PARQUET", help="for the criterion distribution")
    parser.add_argument("--transport", metavar="PARQUET", help="for the criterion distribution by EMD or mean")
    parser.add_argument("--discrepancy", metavar="PARQUET", help="for the criterion distribution by MMD")
    parser.add_argument("--refinement", metavar="PARQUET", help="refined pseudo labels")
    parser.add_argument(
        "--labeled", nargs="+", default=[], metavar="PARQUET", help="manifests with labels for the task, for alignment"
    )
    parser.add_argument("--reliability", metavar="JSON", help="of the pseudo labels, which scales the strength")
    parser.add_argument("--distance", choices=tuple(DISTANCES), default="emd", help="of a cluster from a domain")
    parser.add_argument(
        "--selection",
        type=json.loads,
        required=True,
        metavar="JSON",
        help="list of criteria, or a constant weight",
    )
    parser.add_argument("--decay-scale", choices=DECAY_SCALES, default="absolute", help="what λ is per")
    parser.add_argument("--sharpness", type=float, default=1, help="power of the product of the criteria")
    parser.add_argument("--alignment", choices=ALIGNMENTS, default="none", help="of the soft labels' class mix")
    parser.add_argument("--temperature", type=float, default=2, help="T of the soft labels")
    parser.add_argument("--interpolation", choices=INTERPOLATIONS, default="soft", help="by w, or by 0 and 1")
    parser.add_argument("--quantile", type=float, default=0.5, help="of w, at which threshold selection begins")
    parser.add_argument("--strength", type=float, default=1, help="α, weight of the loss of samples without a label")
    parser.add_argument("--student-temperature", type=float, default=1, help="by which their scores are divided")
    parser.add_argument("--normalization", choices=NORMALIZATIONS, default="joint", help="of the loss of a task")
    parser.add_argument("--output-weights", required=True, metavar="PARQUET", help="every weight of every sample")
    parser.add_argument("--output-labels", required=True, metavar="PARQUET", help="soft, pseudo and training labels")
    options = parser.parse_args(argv)
    features, unlabeled = read_domain(options.features, options.task, "soft_label")
    classes = features.metadata["classes"][options.task]
    about = {"dataset": features.metadata["dataset"], "classes": classes}
    given = features[f"label_{options.task}"] >= 0
    soft_labels = features[f"soft_label_{options.task}"].astype(np.float64)
    if options.alignment != "none":
        counts = count_labels(options.labeled, options.task, classes)
        soft_labels[~given] = align_labels(soft_labels[~given], counts / counts.sum(), options.alignment)
    density = read_aligned(options.density, DENSITY, unlabeled) if options.density else None
    responsibilities = (
        read_aligned(options.responsibilities, RESPONSIBILITIES, unlabeled) if options.responsibilities else None
    )
    refinement = read_aligned(options.refinement, REFINEMENT, unlabeled) if options.refinement else None
    by_kernel = options.distance == "mmd"
    path_distances = options.discrepancy if by_kernel else options.transport
    distances = read_table(path_distances, DISCREPANCY if by_kernel else TRANSPORT) if path_distances else None
    selection = weigh_samples(
        soft_labels[~given],
        criteria=options.selection,
        pseudo_labels=refinement and refinement["refined_label"],
        density_weights=density and density["density_weight"],
        responsibilities=responsibilities and responsibilities["responsibilities"],
        transport_distances=distances and distances[DISTANCES[options.distance]],
        decay=distances and distances.metadata["decay"],
        decay_scale=options.decay_scale,
        sharpness=options.sharpness,
    )
    strength = options.strength
    if options.reliability:
        reliability = read_json(options.reliability, RELIABILITY)
        if (reliability["task"], reliability["dataset"]) != (options.task, about["dataset"]):
            raise UserError(f"{options.reliability}: is not about '{options.task}' of {about['dataset']}; make it anew")
        strength *= reliability["strength"]
    # A constant weight ranks nothing.
    thresholded = options.interpolation == "threshold" and isinstance(options.selection, list)
    if thresholded:
        selected = threshold_weights(selection.selection_weights, options.quantile)
        selection = replace(selection, selection_weights=selected)
    # A given label is a pseudo label that is certain.
    labels = features[f"label_{options.task}"]
    pseudo_labels, weights = np.where(given, labels, 0).astype(np.int32), given.astype(np.float64)
    pseudo_labels[~given], weights[~given] = selection.pseudo_labels, selection.selection_weights
    softened = soften_labels(soft_labels, options.temperature)
    training_labels = interpolate_labels(softened, pseudo_labels, weights)
    inputs = [
        *(options.features, options.density, options.responsibilities, path_distances, options.refinement),
        options.reliability,
        *(options.labeled if options.alignment != "none" else []),
    ]
    recorded = (
        *("task", "selection", "distance", "decay_scale", "sharpness", "alignment", "temperature"),
        *("strength", "student_temperature", "normalization"),
    )
    parameters = {name: getattr(options, name) for name in recorded}
    parameters["interpolation"] = "threshold" if thresholded else "soft"
    if thresholded:
        parameters["quantile"] = options.quantile
    provenance = Provenance(
        "materialize_labels",
        parameters,
        [path for path in inputs if path],
    )
    write_table(
        options.output_weights,
        WEIGHTS,
        {"sample_id": unlabeled["sample_id"], **weight_columns(selection, classes)},
        metadata={**about, "selection": options.selection},
        provenance=provenance,
    )
    write_table(
        options.output_labels,
        LABELS,
        {
            "sample_id": features["sample_id"],
            "given": given,
            "soft_label": softened,
            "pseudo_label": pseudo_labels,
            "training_label": training_labels,
        },
        metadata={
            **about,
            "temperature": options.temperature,
            "strength": strength,
            "student_temperature": options.student_temperature,
            "normalization": options.normalization,
        },
        provenance=provenance,
    )


def weight_columns(selection: Selection, classes: list[str]) -> dict[str, np.ndarray]:
    """The columns of weights.parquet; NaN, stored as null, where a weight was not computed."""
    unused = np.full(len(selection.pseudo_labels), np.nan)
    optional = {
        "density_weight": selection.density_weights,
        "confident_weight": selection.confident_weights,
        "sample_distance": selection.sample_distances,
        "distribution_weight": selection.distribution_weights,
    }
    return {
        "pseudo_label": selection.pseudo_labels,
        "pseudo_class": np.array(classes, dtype=object)[selection.pseudo_labels],
        "confidence_weight": selection.confidence_weights,
        **{name: unused if values is None else values for name, values in optional.items()},
        "selection_weight": selection.selection_weights,
    }


if __name__ == "__main__":
    run_stage(main)

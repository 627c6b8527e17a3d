"""What the paper reports: accuracy in percent of its methods on its pairs of datasets (Tables 1 and 2)."""

PAIRS = (("expw", "aflw"), ("ferplus", "aflw"), ("sfew", "aflw"), ("deepfashion", "peta"))
"""Of datasets, by the readers of this project."""

TABLE_1 = {
    "stl": ((64.17, 75.17), (82.13, 75.17), (47.49, 75.17), (81.71, 78.08)),
    "all_in_one": ((63.54, 76.01), (82.57, 76.41), (45.51, 75.27), (80.39, 79.02)),
    "mtl_wf": ((66.10, 77.08), (82.73, 76.12), (50.11, 76.02), (82.12, 79.83)),
    "sfsmr": ((65.04, 76.81), (82.89, 76.78), (51.01, 76.07), (81.83, 80.04)),
    "slrm": ((65.44, 76.51), (82.91, 76.82), (50.61, 75.92), (82.01, 79.43)),
    "lel_ltn": ((65.42, 76.17), (83.08, 75.89), (50.56, 76.49), (81.23, 79.84)),
    "dcn_ap": ((66.01, 77.17), (82.14, 76.75), (52.10, 76.54), (82.93, 80.11)),
    "mtl_sa": ((67.34, 78.41), (84.45, 77.92), (53.50, 77.85), (84.12, 81.78)),
}
"""By method, a figure for each dataset of each of `PAIRS`."""

_PAIRS_2 = (("ferplus", "aflw"), ("deepfashion", "peta"))
TABLE_2 = {
    "mtl_wf": ((82.73, 76.12), (82.12, 79.83)),
    "constant_0": ((82.88, 76.23), (82.53, 80.04)),
    "constant_1": ((82.48, 75.62), (81.12, 79.14)),
    "constant_05": ((82.74, 76.17), (81.79, 79.46)),
    "only_confidence": ((83.01, 76.92), (82.45, 79.98)),
    "only_density": ((83.21, 77.01), (82.71, 79.96)),
    "only_emd": ((83.44, 77.42), (82.94, 80.32)),
    "only_mmd": ((83.02, 77.12), (82.46, 80.03)),
    "mtl_sa": ((84.45, 77.92), (84.12, 81.78)),
}
"""The special cases, on the second and the last of `PAIRS`."""


def find_paper_results(sources: dict[str, str]) -> dict[str, dict[str, dict[str, float]]]:
    """The paper's figures for an experiment; empty tables where it is none of the paper's pairs.

    Args:
        sources: the reader of the dataset that a task is tested on, by task.

    Returns:
        By table (`Table 1`, `Table 2`), method and task, accuracy in percent.
    """
    found = {}
    for title, table, pairs in (("Table 1", TABLE_1, PAIRS), ("Table 2", TABLE_2, _PAIRS_2)):
        [place] = [number for number, pair in enumerate(pairs) if set(pair) == set(sources.values())] or [None]
        found[title] = {}
        if place is not None and len(sources) == 2:
            for method, rows in table.items():
                by_source = dict(zip(pairs[place], rows[place], strict=True))
                found[title][method] = {task: by_source[source] for task, source in sources.items()}
    return found

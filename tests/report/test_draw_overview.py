import json
from html.parser import HTMLParser

import numpy as np
import pytest

from stages.report.draw_overview import main
from tests.conftest import write_split
from tests.report.conftest import HOSTILE, read_drawn, read_texts
from tests.report.test_compare_methods import write_metrics

NAMES = {"datasets": "html", "balance": "svg", "images": "svg", "runs": "html", "times": "svg"}
SPLITS = {"train": 30, "validation": 6, "test": 12}


class Cells(HTMLParser):
    """The texts of a page's cells."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts, self.inside = [], [], False

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.texts.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data


def read_cells(path):
    parser = Cells()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


@pytest.fixture
def drawn(tmp_path):
    data, results, logs = (tmp_path / name for name in ("data", "results/tiny", "logs/tiny"))
    splits = {
        (dataset, split): write_split(data, dataset, task, classes, n, split=split)
        for dataset, task, classes in (("faces", "mood", HOSTILE), ("heads", "pose", ["left", "right"]))
        for split, n in SPLITS.items()
    }
    run = write_metrics(tmp_path / "metrics.parquet", (0.25, 0.75))
    (results / "made").mkdir(parents=True)
    (results / "made/weights.parquet").write_bytes(b"x" * 1500)
    (results / "made/report.svg").write_bytes(b"x" * 9000)
    rows = [
        ["results/tiny/made/weights.parquet", "materialize_labels", "all", False, "a"],
        ["results/tiny/made/report.svg", "draw_weights", "report", False, "b"],
        ["results/tiny/made/gone.parquet", "extract_features", "all", True, "c"],
    ]
    (results / "plan.json").write_text(json.dumps({"command": "", "results": "results/tiny", "artifacts": rows}))
    for name in ("seed-0/mtl_sa/epoch-001/train_epoch", "seed-0/mtl_sa/epoch-009/train_epoch", "report/draw_weights"):
        path = logs / f"{name}.benchmark.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\th:m:s\n2.5\t0:00:02\n")
    outputs = {name: tmp_path / "out" / f"{name}.{kind}" for name, kind in NAMES.items()}
    main(
        [
            *("--tables", *(str(split.table) for split in splits.values())),
            *("--images", *(f"{name}={splits[name, 'train'].images}" for name in ("faces", "heads"))),
            *("--runs", f"mtl_sa/0={run}", "--paper-names", '{"mtl_sa": "<MTL-SA>"}'),
            *("--audited", '{"faces": ["pose"]}', "--settings", '{"images": {"height": 8, "mean": null}, "a": []}'),
            *("--results", str(results), "--logs", str(logs), "--epochs", "2"),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
            *("--output-record", str(tmp_path / "out" / "figures.json")),
        ]
    )
    return outputs, read_drawn(tmp_path / "out" / "figures.json"), splits


def test_samples_scores_times_and_sizes_are_counted(watch, drawn):
    outputs, numbers, splits = drawn
    assert numbers["samples"] == {"faces": SPLITS, "heads": SPLITS}
    expected = [np.bincount(splits["heads", split].labels, minlength=2).tolist() for split in SPLITS]
    assert numbers["classes"]["heads/pose"] == np.transpose(expected).tolist()
    [run] = numbers["runs"]
    assert run["epoch"] == 1
    assert run["test"]["pose"] == {"accuracy": 0.75, "macro_f1": 0.375, "n_samples": 10}
    # Neither a later epoch of an older config nor the report itself counts.
    assert numbers["seconds"] == {"train_epoch": [2.5, 1]}
    assert numbers["bytes"] == {"materialize_labels": 1500}
    assert any("frontal" in text or "left" in text for text in read_texts(outputs["balance"]))
    assert not watch.cut


def test_pages_hold_names_as_texts(drawn):
    outputs, _, _ = drawn
    runs = read_cells(outputs["runs"])
    assert "<MTL-SA>" in runs.texts
    assert "75.00" in runs.texts
    assert "images.height" in runs.texts
    assert not {"script", "img", "link"} & set(runs.tags), "nothing is fetched or run"
    datasets = read_cells(outputs["datasets"])
    assert f"mood ({len(HOSTILE)} classes)" in datasets.texts
    assert "pose" in datasets.texts

"""Tables of one label table by hand, and a watch over the texts of figures."""

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from stages.storage.contracts import FEATURES, FIGURES, MIXTURE, TRANSPORT, WEIGHTS
from stages.storage.files import digest_file, read_json
from stages.storage.tables import Provenance, write_table

HOSTILE = ['<b>&"angry"', "$\\alpha$ costs $5", "two\nlines_\x1b", "schön 快乐", "x" * 70 + "1", "x" * 70 + "2"]
"""Class names that would break pages, formulas, lines, fonts and margins."""
NOWHERE = Provenance("test", {}, [])


def write_weights(path, ids, labels, classes, *, seed=0, density=True, dataset="heads"):
    """A table of weights that are drawn; returns its columns."""
    rng = np.random.default_rng(seed)
    ids, labels = np.asarray(ids), np.asarray(labels, dtype=np.int32)
    nothing = np.full(len(ids), np.nan)
    parts = {name: rng.random(len(ids)) for name in ("confidence", "density", "distribution", "selection")}
    columns = {
        "sample_id": ids,
        "pseudo_label": labels,
        "pseudo_class": np.array(classes, dtype=object)[labels],
        "confidence_weight": parts["confidence"],
        "density_weight": parts["density"] if density else nothing,
        "confident_weight": parts["confidence"] * parts["density"] if density else nothing,
        "sample_distance": nothing,
        "distribution_weight": 0.9 + parts["distribution"] / 20,
        "selection_weight": parts["selection"],
    }
    metadata = {"dataset": dataset, "classes": list(classes), "selection": ["confidence"]}
    write_table(path, WEIGHTS, columns, metadata=metadata, provenance=NOWHERE)
    return columns


def write_features(path, ids, features, task, dataset, label=0):
    """A table of features of a task; with the label -1 none is given."""
    soft = np.full((len(ids), 2), 0.5, dtype=np.float32)
    columns = {"sample_id": np.asarray(ids), f"features_{task}": features.astype(np.float32)}
    columns[f"label_{task}"] = np.full(len(ids), label)
    metadata = {"dataset": dataset, "dim": features.shape[1], "dtype": "float32", "normalize": "l2", "classes": {}}
    write_table(path, FEATURES, columns | {f"soft_label_{task}": soft}, metadata=metadata, provenance=NOWHERE)


def write_mixture(path, weights, domain):
    """A mixture of components at random places."""
    n = len(weights)
    values = np.random.default_rng(n).random((n, 3))
    columns = {
        "component": np.arange(n, dtype=np.int32),
        "mixing_weight": np.asarray(weights, dtype=np.float64),
        "mean": values,
        "covariance": values,
    }
    metadata = {
        "domain": domain,
        "covariance_type": "diag",
        "converged": True,
        "iterations": 3,
        "log_likelihood": 0.0,
    }
    write_table(path, MIXTURE, columns, metadata=metadata, provenance=NOWHERE)


def write_transport(path, distances, flows, decay=0.1):
    """Distances and flows between components."""
    distances, flows = np.asarray(distances), np.asarray(flows)
    ends = (distances * flows).sum(axis=1)
    columns = {
        "component": np.arange(len(distances), dtype=np.int32),
        "flow": flows,
        "component_distance": distances,
        "transport_distance": ends,
        "mean_distance": ends,
    }
    metadata = {"ground_distance": "sqeuclidean", "decay": decay}
    write_table(path, TRANSPORT, columns, metadata=metadata, provenance=NOWHERE)
    return ends


def read_drawn(path):
    """What a record says was drawn, once the figures beside it are known to be those that it is about."""
    content = read_json(path, FIGURES)
    folder = Path(path).parent
    assert {name: digest_file(folder / name) for name in content["files"]} == content["files"]
    return json.loads(json.dumps(content["drawn"]))


def read_texts(path):
    """All texts of an SVG, which must be well-formed."""
    return ["".join(node.itertext()) for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


@dataclass
class Watch:
    """What reached beyond the edge of a figure."""

    cut: list[str] = field(default_factory=list)
    n_figures: int = 0


@pytest.fixture
def watch(monkeypatch):
    """Looks at every figure that is written: texts must lie within it, and it within a report's page."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from stages.report.style import HEIGHT, WIDTH

    found, write = Watch(), Figure.savefig

    def save(figure, *arguments, **options):
        write(figure, *arguments, **options)
        found.n_figures += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # So fine that rounding to pixels makes no letter wider.
            figure.set_dpi(300)
            renderer = figure.canvas.get_renderer()
            panels = [one for panel in figure.axes for one in (panel, *panel.child_axes) if one.axison]
            axes = [axis for panel in panels for axis in (panel.xaxis, panel.yaxis)]
            of_axes = {text for axis in axes for text in axis.findobj(Text)}
            parts = [*axes, *(text for text in figure.findobj(Text) if text not in of_axes and text.get_text())]
            for part in parts:
                box = part.get_tightbbox(renderer) if part in axes else part.get_window_extent(renderer)
                if box is None or not part.get_visible():
                    continue
                if min(box.x0, box.y0, figure.bbox.width - box.x1, figure.bbox.height - box.y1) < -3:
                    found.cut.append(f"{part}: {box} in {figure.bbox}")
        width, height = figure.get_size_inches()
        if width > WIDTH or height > HEIGHT + 0.1:
            found.cut.append(f"a figure of {width:.1f} by {height:.1f} inches")

    # Without a renderer of its own the canvas of a figure measures nothing.
    monkeypatch.setattr(Figure, "savefig", save)
    monkeypatch.setattr("matplotlib.figure.FigureCanvasBase", _measuring_canvas())
    return found


def _measuring_canvas():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg

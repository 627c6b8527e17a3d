"""Two domains in the features of a task: where their samples lie, their clusters, and how far apart they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.report.style import (
    COLORS,
    DARK,
    GREY,
    LIGHT,
    MARKERS,
    add_legend,
    make_figure,
    mark_epochs,
    save_figure,
    shorten,
    shorten_all,
    use_style,
    write_cells,
)

MAX_CLASSES = 7
"""Pseudo labels with a colour and a marker of their own."""
MAX_NUMBERED = 8
"""Components up to which cells have numbers."""


@dataclass(frozen=True)
class Map:
    """Samples of both domains on a plane.

    Attributes:
        points: (n, 2), those of the unlabeled domain first.
        pseudo_labels: class indices of the unlabeled ones, shape (m,).
        density_weights: their w^d, shape (m,); NaN where the method has none.
        verdicts: 1, 0 or -1: right, wrong, not known; shape (m,).
    """

    points: np.ndarray
    pseudo_labels: np.ndarray
    density_weights: np.ndarray
    verdicts: np.ndarray


@dataclass(frozen=True)
class Clusters:
    """The clusters of both domains, and the ways between them.

    Attributes:
        unlabeled: π of the unlabeled domain, shape (C_u,).
        labeled: π of the labeled domain, shape (C_l,).
        component_distances: d^M, shape (C_u, C_l).
        flows: h, shape (C_u, C_l).
        transport_distances: d^E, shape (C_u,).
    """

    unlabeled: np.ndarray
    labeled: np.ndarray
    component_distances: np.ndarray
    flows: np.ndarray
    transport_distances: np.ndarray


def draw_maps(path: str | Path, maps: Mapping[int, Map], classes: Sequence[str], unlabeled: str, labeled: str) -> None:
    """Draw samples of both domains: by domain, by pseudo label and by local density, a row for every epoch.

    Args:
        path: the file to write.
        maps: by epoch.
        classes: C names.
        unlabeled: name of the unlabeled domain.
        labeled: name of the labeled one.
    """
    from matplotlib.lines import Line2D

    counts = sum(np.bincount(one.pseudo_labels, minlength=len(classes)) for one in maps.values())
    shown = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES])
    names = shorten_all([classes[k] for k in shown])
    domains = (shorten(unlabeled, 30), shorten(labeled, 30))
    with use_style():
        figure = make_figure(3.05 * len(maps) + 0.5)
        rows = figure.subplots(len(maps), 3, squeeze=False)
        for row, (epoch, one) in zip(rows, maps.items(), strict=True):
            n_unlabeled = len(one.pseudo_labels)
            own, other = one.points[:n_unlabeled], one.points[n_unlabeled:]
            _scatter(row[0], other, color=COLORS[1], marker="^", label=f"{domains[1]}, labelled, n = {len(other)}")
            _scatter(row[0], own, color=COLORS[0], marker="o", label=f"{domains[0]}, n = {n_unlabeled}")
            for panel in row[1:]:
                _scatter(panel, other, color=LIGHT, marker="^")
            rest = ~np.isin(one.pseudo_labels, shown)
            _scatter(row[1], own[rest], color=DARK, marker="x")
            for number, k in enumerate(shown):
                _scatter(row[1], own[one.pseudo_labels == k], color=COLORS[number], marker=MARKERS[number])
            known = np.isfinite(one.density_weights)
            wrong = one.verdicts == 0
            looks = {
                "o": (known & ~wrong, {"linewidth": 0.2, "edgecolor": DARK}),
                "x": (known & wrong, {"linewidth": 1}),
            }
            for marker, (chosen, edges) in looks.items():
                points = row[2].scatter(
                    *own[chosen].T,
                    c=one.density_weights[chosen],
                    s=16,
                    marker=marker,
                    vmin=0,
                    vmax=1,
                    rasterized=True,
                    **edges,
                )
            figure.colorbar(points, ax=row[2], label="local density wᵈ")
            titles = ("by domain", "by pseudo label", "by local density" + (" (×: wrong)" if wrong.any() else ""))
            for panel, title in zip(row, titles, strict=True):
                panel.set_title(f"epoch {epoch}, {title}", fontweight="bold")
                panel.set_xticks([])
                panel.set_yticks([])
            row[0].legend(loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=8)
        handles = [
            *(
                Line2D([], [], linestyle="", color=COLORS[number], marker=MARKERS[number], label=name)
                for number, name in enumerate(names)
            ),
            Line2D([], [], linestyle="", color=LIGHT, marker="^", label=f"{domains[1]} (labelled)"),
        ]
        if len(shown) < len(classes):
            handles.insert(-1, Line2D([], [], linestyle="", color=DARK, marker="x", label="other classes"))
        title = f"t-SNE of features; pseudo labels of {domains[0]}:"
        add_legend(figure, handles, [one.get_label() for one in handles], ncols=9, title=title)
        save_figure(path, figure)


def _scatter(panel, points: np.ndarray, **options) -> None:
    cross = options["marker"] == "x"
    edges = {} if cross else {"edgecolor": DARK, "linewidth": 0.2}
    panel.scatter(*points.T, s=14, rasterized=True, **edges, **options)


def draw_discrepancies(
    path: str | Path, found: Mapping[int, Mapping[str, float]], unlabeled: str, labeled: str
) -> None:
    """Draw MMD² between the domains beside that between halves of one domain, a bar for every epoch.

    Args:
        path: the file to write.
        found: by epoch what `compare_domains` gives.
        unlabeled: name of the unlabeled domain.
        labeled: name of the labeled one.
    """
    names = {"unlabeled": shorten(unlabeled, 30), "labeled": shorten(labeled, 30)}
    keys = list(next(iter(found.values())))
    titles = [
        f"{key.rpartition(' ')[0]} {names[key.rpartition(' ')[2]]}".replace("of the ", "of ")
        if key.rpartition(" ")[2] in names
        else f"{names['unlabeled']} and {names['labeled']}"
        for key in keys
    ]
    with use_style():
        figure = make_figure(3.4, 9)
        panel = figure.subplots()
        height = 0.8 / len(found)
        for number, (epoch, values) in enumerate(found.items()):
            places = np.arange(len(keys)) + (number - (len(found) - 1) / 2) * height
            color, hatch = (COLORS[0], "") if number == len(found) - 1 else (LIGHT, "")
            bars = panel.barh(places, [values[key] for key in keys], height * 0.92, color=color, hatch=hatch,
                              edgecolor=DARK, linewidth=0.5, label=f"epoch {epoch}")  # fmt: skip
            panel.bar_label(bars, [f"{values[key]:.4f}" for key in keys], padding=3, fontsize=8)
        panel.set_yticks(range(len(keys)), titles)
        panel.invert_yaxis()
        panel.margins(x=0.12)
        panel.set_xlabel("MMD² (Gaussian kernel, median bandwidth)")
        panel.legend(loc="lower right")
        save_figure(path, figure)


def draw_clusters(path: str | Path, clusters: Mapping[int, Clusters], unlabeled: str, labeled: str) -> None:
    """Draw mixing weights, distances d^M and flows h between the clusters of both domains, a row for every epoch.

    Args:
        path: the file to write.
        clusters: by epoch.
        unlabeled: name of the unlabeled domain.
        labeled: name of the labeled one.
    """
    names = shorten(unlabeled, 24), shorten(labeled, 24)
    with use_style():
        figure = make_figure(3.15 * len(clusters) + 0.2)
        rows = figure.subplots(len(clusters), 3, squeeze=False, width_ratios=[0.9, 1.2, 1.2])
        for row, (epoch, one) in zip(rows, clusters.items(), strict=True):
            n_unlabeled, n_labeled = one.component_distances.shape
            for offset, weights, color, hatch, name in (
                (-0.2, one.unlabeled, COLORS[0], "", names[0]),
                (0.2, one.labeled, COLORS[1], "////", f"{names[1]} (labelled)"),
            ):
                row[0].bar(np.arange(len(weights)) + offset, weights, 0.38, color=color, hatch=hatch, label=name)
            row[0].set_xticks(range(max(n_unlabeled, n_labeled)))
            row[0].set_xlabel("component")
            row[0].set_ylabel("mixing weight π")
            row[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.1), fontsize=8)
            row[0].set_title(f"epoch {epoch}", fontweight="bold")
            small = max(n_unlabeled, n_labeled) <= MAX_NUMBERED
            for panel, values, title, digits in (
                (row[1], one.component_distances, "distance dᴹ", 3),
                (row[2], one.flows, "flow h", 2),
            ):
                texts = [[f"{value:.{digits}f}" if small else "" for value in line] for line in values]
                image = write_cells(panel, values, texts)
                panel.set_xticks(range(n_labeled))
                ends = [f"{k}:  dᴱ {distance:.3f}" for k, distance in enumerate(one.transport_distances)]
                panel.set_yticks(range(n_unlabeled), ends if panel is row[1] else range(n_unlabeled))
                panel.set_xlabel(f"component of {names[1]}")
                panel.set_ylabel(f"component of {names[0]}")
                panel.set_title(f"epoch {epoch}, {title}", fontweight="bold")
                figure.colorbar(image, ax=panel)
        save_figure(path, figure)


def draw_distances(
    path: str | Path, clusters: Mapping[int, Clusters], decay: float, unlabeled: str, labeled: str
) -> None:
    """Draw d^E of every component by epoch, its area that of its mixing weight, and the weight w^g that it means.

    Args:
        path: the file to write.
        clusters: by epoch.
        decay: λ.
        unlabeled: name of the unlabeled domain.
        labeled: name of the labeled one.
    """
    epochs = list(clusters)
    with use_style():
        figure = make_figure(3.9, 8.5)
        panel = figure.subplots()
        for epoch, one in clusters.items():
            panel.scatter([epoch] * len(one.unlabeled), one.transport_distances, s=500 * one.unlabeled, marker="o",
                          facecolor=(0, 0.447, 0.698, 0.45), edgecolor=DARK, linewidth=0.6)  # fmt: skip
        means = [float(one.unlabeled @ one.transport_distances) for one in clusters.values()]
        panel.plot(epochs, means, color=DARK, linewidth=1.2, label="mean, by mixing weight")
        panel.scatter([], [], s=100, facecolor=COLORS[0], edgecolor=DARK, label="component, its area is π")
        mark_epochs(panel, epochs)
        panel.margins(y=0.12)
        panel.set_ylabel(f"dᴱ, {shorten(unlabeled, 20)} to {shorten(labeled, 20)}")
        if decay > 0:
            smallest = np.finfo(np.float64).tiny
            weigh = (lambda d: np.exp(-decay * d), lambda w: -np.log(np.maximum(w, smallest)) / decay)
            second = panel.secondary_yaxis("right", functions=weigh)
            second.set_ylabel(f"weight wᵍ = exp(-{decay:g} dᴱ)")
            second.spines["right"].set_color(GREY)
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
        save_figure(path, figure)

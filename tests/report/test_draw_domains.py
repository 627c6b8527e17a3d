import numpy as np
import pytest

from stages.report.draw_domains import main as draw_domains
from stages.report.draw_map import main as draw_map
from stages.report.draw_map import read_domain
from tests.conftest import write_audit
from tests.report.conftest import (
    HOSTILE,
    read_drawn,
    read_texts,
    write_features,
    write_mixture,
    write_transport,
    write_weights,
)


def test_the_clusters_drawn_are_those_of_the_tables(tmp_path, watch):
    distances = np.array([[1.0, 4.0, 2.0], [3.0, 0.5, 2.5]])
    flows = np.array([[0.2, 0.3, 0.5]] * 2)
    options, ends = {"--unlabeled": [], "--labeled": [], "--transport": []}, {}
    for epoch in (1, 3, 5):
        folder = tmp_path / str(epoch)
        write_mixture(folder / "u.parquet", [0.4, 0.6], "unlabeled")
        write_mixture(folder / "l.parquet", flows[0], "labeled")
        ends[epoch] = write_transport(folder / "t.parquet", epoch * distances, flows)
        for option, name in zip(options, "ult", strict=True):
            options[option].append(str(folder / f"{name}.parquet"))
    record = tmp_path / "out" / "figures.json"
    outputs = {name: tmp_path / "out" / f"{name}.svg" for name in ("mixtures", "distances")}
    draw_domains(
        [
            *(part for option, paths in options.items() for part in (option, *paths)),
            *("--epochs", "1", "3", "5", "--names", "heads", "faces+more_faces"),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
            *("--output-record", str(record)),
        ]
    )
    drawn = read_drawn(record)
    assert drawn["clusters"]["3"]["component_distances"] == (3 * distances).tolist()
    assert drawn["clusters"]["5"]["flows"] == flows.tolist()
    assert drawn["clusters"]["1"]["unlabeled"] == [0.4, 0.6]
    assert drawn["clusters"]["1"]["transport_distances"] == pytest.approx(ends[1].tolist())
    assert "12.000" not in read_texts(outputs["mixtures"]), "the epochs between are left out"
    assert "20.000" in read_texts(outputs["mixtures"])
    assert any("faces+more" in text for text in read_texts(outputs["distances"]))
    assert not watch.cut


@pytest.fixture
def domains(tmp_path):
    """Two domains in one epoch: heads 10 to 49 without a label, faces around another place."""
    rng = np.random.default_rng(0)
    heads, faces = rng.normal(size=(40, 6)), rng.normal(size=(30, 6)) + 5
    write_features(tmp_path / "heads.parquet", np.arange(10, 50), heads, "mood", "heads", label=-1)
    write_features(tmp_path / "faces.parquet", np.arange(30), faces, "mood", "faces")
    write_weights(tmp_path / "weights.parquet", np.arange(10, 50), np.arange(40) % len(HOSTILE), HOSTILE)
    names = np.array(HOSTILE, dtype=object)[np.arange(60) % len(HOSTILE)]
    write_audit(tmp_path / "audit.parquet", "heads", np.arange(60), {"mood": names})
    return tmp_path, heads, faces


def draw(folder, output, *options, labeled=("faces",)):
    record = folder / output / "figures.json"
    outputs = {name: folder / output / f"{name}.svg" for name in ("map", "discrepancy")}
    draw_map(
        [
            *("--task", "mood", "--weights", str(folder / "weights.parquet"), "--epochs", "3"),
            *("--unlabeled", str(folder / "heads.parquet")),
            *("--labeled", *(str(folder / f"{name}.parquet") for name in labeled), *options),
            *("--names", "heads", "faces", "--seed", "1"),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
            *("--output-record", str(record)),
        ]
    )
    return outputs, record


def test_domains_that_differ_are_further_apart_than_their_halves(domains, watch):
    folder, _, _ = domains
    outputs, record = draw(folder, "out", "--audit-table", str(folder / "audit.parquet"))
    drawn = read_drawn(record)
    found = drawn["discrepancies"]["3"]
    assert drawn["n_drawn"] == {"3": {"unlabeled": 40, "labeled": 30}}
    between = found.pop("between the domains")
    assert between > 3 * max(found.values())
    texts = read_texts(outputs["map"])
    assert any("$\\alpha$" in text for text in texts)
    assert any("(×: wrong)" in text for text in texts)
    assert f"{between:.4f}" in read_texts(outputs["discrepancy"])
    assert not watch.cut


def test_maps_are_the_same_bytes_for_one_seed(domains):
    folder, _, _ = domains
    first, _ = draw(folder, "one")
    second, _ = draw(folder, "two")
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)


def test_several_labelled_datasets_are_one_domain(domains):
    folder, _, faces = domains
    write_features(folder / "more.parquet", np.arange(5), faces[:5], "mood", "more")
    _, record = draw(folder, "out", labeled=("faces", "more"))
    assert read_drawn(record)["n_drawn"]["3"]["labeled"] == 35
    ids, features = read_domain([str(folder / "faces.parquet"), str(folder / "more.parquet")], "mood", given=True)
    assert len(ids) == 35
    assert features[30:] == pytest.approx(faces[:5], abs=1e-6)


def test_weights_of_other_samples_are_refused(domains):
    folder, _, _ = domains
    write_weights(folder / "weights.parquet", np.arange(40), np.zeros(40), ["sad"])
    with pytest.raises(ValueError, match="its samples are not those of"):
        draw(folder, "out")

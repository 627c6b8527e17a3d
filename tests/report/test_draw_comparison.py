import json

import pytest

from stages.report.draw_comparison import main
from stages.report.paper_results import PAIRS, TABLE_1, TABLE_2, find_paper_results
from tests.report.conftest import read_drawn
from tests.report.test_compare_methods import compare, write_runs
from tests.report.test_draw_overview import read_cells


def show(folder, sources):
    files = compare(folder, write_runs(folder))
    outputs = {name: folder / "report" / f"{name}.html" for name in ("tables", "curves")}
    record = folder / "report" / "figures.json"
    main(
        [
            *("--comparison", str(files["table"]), "--curves", str(files["figure"])),
            *("--sources", json.dumps(sources), "--output-record", str(record)),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
        ]
    )
    return outputs, read_drawn(record)


def test_our_scores_stand_beside_the_papers_on_its_own_pairs(tmp_path):
    outputs, drawn = show(tmp_path, {"mood": "sfew", "pose": "aflw"})
    assert drawn["paper"]["Table 1"]["mtl_sa"] == {"mood": 53.5, "pose": 77.85}
    assert drawn["paper"]["Table 2"] == {}
    # The epoch that validation chose: 0.6 and 0.8 of stl.
    assert drawn["summary"]["stl"]["pose"]["accuracy"] == pytest.approx(0.7)
    texts = read_cells(outputs["tables"]).texts
    row = texts[texts.index("STL") : texts.index("STL") + 5]
    assert row[1].startswith("70.00 ± 14.14 [")
    assert row[2] == "75.17"
    assert row[4] == "47.49"
    assert "<svg" in outputs["curves"].read_text()


def test_other_datasets_have_no_figures_of_the_paper(tmp_path):
    outputs, drawn = show(tmp_path, {"mood": "image_folder", "pose": "aflw"})
    assert drawn["paper"] == {"Table 1": {}, "Table 2": {}}
    assert "are none of the paper" in outputs["tables"].read_text()
    assert not any("paper" in text for text in read_cells(outputs["tables"]).texts)


def test_the_papers_tables_are_complete():
    assert all(len(rows) == len(PAIRS) for rows in TABLE_1.values())
    found = find_paper_results({"age": "peta", "style": "deepfashion"})
    assert found["Table 1"]["mtl_sa"] == {"age": 81.78, "style": 84.12}
    assert found["Table 2"]["only_mmd"] == {"age": 80.03, "style": 82.46}
    assert TABLE_1["mtl_wf"][1] == TABLE_2["mtl_wf"][0]
    assert TABLE_1["mtl_sa"][3] == TABLE_2["mtl_sa"][1]
    # In both tables MTL-SA is best everywhere.
    for table in (TABLE_1, TABLE_2):
        for method, rows in table.items():
            ours = table["mtl_sa"]
            assert method == "mtl_sa" or all(
                a > b for x, y in zip(ours, rows, strict=True) for a, b in zip(x, y, strict=True)
            )

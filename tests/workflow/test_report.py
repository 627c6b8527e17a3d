"""The report of the tiny experiment: all figures with their captions, and that `verify` looks after them."""

import json
import re
import zipfile

from stages.storage.files import digest_file
from tests.workflow.test_verify import flip, paste, verify
from workflow.plan import FIGURES

RUN = "seed-0/mtl_sa/report"
PAIRS = ("pose/snapshots", "expression/portraits")
PAIR_PARTS = ("weights", "truth", "domains", "map", "samples")
PARTS = {
    "report/overview": "draw_overview",
    f"{RUN}/training": "draw_training",
    f"{RUN}/cross_stitch": "draw_cross_stitch",
    **{f"{RUN}/{part}/{pair}": f"draw_{part}" for part in PAIR_PARTS for pair in PAIRS},
}


def read_report(path):
    """Digests of the results in a report, what its page says of each, and the page."""
    with zipfile.ZipFile(path) as file:
        page = file.read("report/report.html").decode()
        contents = {name: file.read(name) for name in file.namelist()}
    return contents, json.loads(re.search(r"var results = (\{.*\});", page)[1]), page


def test_the_report_of_a_run_holds_every_figure_and_is_looked_after(ran):
    ran.snakemake("--cores", "2", "--", "report")
    figures = [f"{folder}/{file}" for folder, rule in PARTS.items() for file in FIGURES[rule]]
    assert all((ran.results / figure).is_file() for figure in figures)
    assert ran.plan("report") == {}, "it is drawn once"

    ran.snakemake("--cores", "2", "--report", "report.zip", "--", "report")
    contents, results, page = read_report(ran.folder / "report.zip")
    assert "Docutils System Messages" not in page
    explorer = "results/tiny/report/explorer/index.html"
    assert set(results) == {f"results/tiny/{figure}" for figure in figures} | {explorer}
    for path, result in results.items():
        if path != explorer:
            assert contents[f"report/{result['data_uri']}"] == (ran.folder / path).read_bytes()
        assert len(result["caption"]) > 150, path
        # One label: a second one with two values would hide half of the figures behind a switch.
        assert len(result["labels"]) == 1
    page_of_samples = results[explorer]["data_uri"]
    assert contents[f"report/{page_of_samples}"] == (ran.folder / explorer).read_bytes()
    labels = [(path.rpartition("/report/")[0], *result["labels"].values()) for path, result in results.items()]
    assert len(set(labels)) == len(labels), "no two figures of a list have the same name"

    status, output, errors = verify(ran)
    assert status == 0, errors
    assert "0 damaged, 0 missing, 0 out of date; 0 files left over" in output
    lost, damaged = f"{RUN}/map/{PAIRS[0]}/map.svg", f"{RUN}/training/scores.svg"
    digests = {path: digest_file(ran.results / path) for path in (lost, damaged)}
    (ran.results / lost).unlink()
    flip(ran.results / damaged)
    status, output, errors = verify(ran)
    assert status == 1
    assert f"{damaged}: is damaged" in errors
    assert f"{lost}: is missing" in errors
    paste(ran, output, "make them anew")
    assert {path: digest_file(ran.results / path) for path in digests} == digests, "drawn anew to the same bytes"
    assert verify(ran)[0] == 0

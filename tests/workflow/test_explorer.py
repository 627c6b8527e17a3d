"""The explorer as part of the workflow: made on request, left alone when nothing changed, checked by `verify`."""

from tests.workflow.test_verify import flip, paste, verify

SAMPLES = "results/tiny/seed-0/mtl_sa/samples.parquet"


def test_the_explorer_is_made_once_and_healed(ran):
    output = ran.snakemake("--cores", "2", "--", "explorer", SAMPLES).stdout
    assert "results/tiny/explorer/index.html: 130 of 130 samples, 1 run," in output
    assert ran.plan("--", "explorer", SAMPLES) == {}
    status, output, errors = verify(ran)
    assert status == 0, errors
    assert "0 files left over" in output
    content = (ran.results / "explorer/data/index.js").read_bytes()
    flip(ran.results / "explorer/data/index.js")
    status, output, errors = verify(ran)
    assert status == 1
    assert "results/tiny/explorer: is damaged (explorer/data/index.js is not the file that was recorded)" in errors
    paste(ran, output, "make them anew")
    assert (ran.results / "explorer/data/index.js").read_bytes() == content
    assert verify(ran)[0] == 0

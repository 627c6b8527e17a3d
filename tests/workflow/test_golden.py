"""Small runs of every kind of method still give what they gave, see golden.py; that of two tasks: test_methods.py."""

import json

import pytest

from stages.storage.contracts import MANIFEST
from stages.storage.tables import read_table
from stages.tools.verify_artifacts import main as verify
from tests.workflow import golden
from tests.workflow.test_pipeline import THREE


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of three tasks, not to be changed."""
    return golden.run_experiment("three", tmp_path_factory.mktemp("golden"))


def test_the_golden_run_holds_what_it_held(results):
    golden.check_digests("three", golden.digest_results(results))


def test_three_tasks_learn_from_each_others_label_transfer_networks(results):
    folder = results / "seed-0/lel_ltn/epoch-003"
    found = {path.parts[-3:-1] for path in folder.rglob("labels.parquet")}
    assert found == {(f"{task}_task", dataset) for task in THREE for dataset in THREE if task != dataset}
    card = json.loads((folder / "checkpoint.json").read_text())
    sizes = [len(read_table(results / f"data/{name}/train.parquet", MANIFEST)) for name in THREE]
    assert card["n_samples"] == sum(sizes) - 2 * sum(sizes) // 3
    assert {loss["n_samples"] for loss in card["losses"].values()} == {card["n_samples"]}
    cards = [json.loads((results / f"seed-0/stl/epoch-{epoch:03d}/checkpoint.json").read_text()) for epoch in (1, 2, 3)]
    assert [list(card["losses"]) for card in cards] == [[f"{task}_task"] for task in THREE]
    assert [card["n_samples"] for card in cards] == sizes
    verify([str(results)])

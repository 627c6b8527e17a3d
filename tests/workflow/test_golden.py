"""Small runs of every kind of method still give what they gave; see golden.py."""

import json

import pytest

from tests.workflow import golden

RECORDED = json.loads(golden.PATH_GOLDEN.read_text(encoding="utf-8"))
TOLERANCE = 0.02
"""Of the norms, where other libraries or another processor round differently and training makes more of it."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    results = golden.run_experiments(tmp_path_factory.mktemp("golden"))
    return {name: golden.digest_results(folder) for name, folder in results.items()}


def test_the_golden_runs_hold_what_they_held(runs):
    """To the bit on a machine whose digests were recorded, in their size on any other."""
    machine = golden.describe_machine()
    same = [record for record in RECORDED if record["machine"] == machine]
    record = (same or RECORDED)[0]["runs"]
    assert {name: set(found) for name, found in runs.items()} == {name: set(found) for name, found in record.items()}
    for name, artifacts in record.items():
        if same:
            changed = [path for path, (digest, _) in artifacts.items() if runs[name][path][0] != digest]
            assert not changed, f"{len(changed)} artifacts of '{name}' changed, the first {changed[0]}"
        networks = {path: norm for path, (_, norm) in artifacts.items() if path.endswith("network.safetensors")}
        assert len(networks) > 20
        for path, norm in networks.items():
            assert runs[name][path][1] == pytest.approx(norm, rel=TOLERANCE), path

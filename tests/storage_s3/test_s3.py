"""A run with its results in object storage leaves what a run on the disk leaves; the storage is moto's S3 server."""

import importlib.util
import os
import socket
import subprocess
import sys
import time

import pytest

from stages.tools.verify_artifacts import main as verify
from tests.workflow.conftest import copy_project
from tests.workflow.test_pipeline import digest_results

NEEDED = {
    "boto3": "boto3",
    "moto.server": "moto[server]",
    "snakemake_storage_plugin_s3": "snakemake-storage-plugin-s3",
}
COPIES = ".snakemake/storage/s3/lab/runs"
ACCOUNT = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}


def find_obstacle():
    """Why there can be no object storage here; None where there can."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module.split(".")[0]) is None]
    return f"not installed: {', '.join(missing)} (pip install .[s3])" if missing else None


OBSTACLE = find_obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))


@pytest.fixture(scope="module")
def endpoint():
    """The address of a server that forgets all when it ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, "moto's server ended"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def open_bucket(endpoint):
    import boto3

    found = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name=ACCOUNT["AWS_DEFAULT_REGION"],
        aws_access_key_id=ACCOUNT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ACCOUNT["AWS_SECRET_ACCESS_KEY"],
    )
    return found.Bucket("lab")


def store_in(endpoint, prefix="s3://lab/runs"):
    return [
        *("--default-storage-provider", "s3", "--default-storage-prefix", prefix, "--keep-storage-local-copies"),
        *("--storage-s3-endpoint-url", endpoint),
    ]


@pytest.fixture(scope="module")
def stored(endpoint, tmp_path_factory):
    """A finished run with its results in the bucket."""
    project = copy_project(tmp_path_factory.mktemp("stored"))
    open_bucket(endpoint).create()
    project.snakemake("--cores", "2", *store_in(endpoint), environment=ACCOUNT)
    return project


def test_a_run_leaves_the_bytes_of_a_local_run(stored, endpoint, tmp_path, capsys, monkeypatch):
    (tmp_path / "on_disk").mkdir()
    on_disk = copy_project(tmp_path / "on_disk")
    on_disk.snakemake("--cores", "2")
    local = digest_results(on_disk.results)
    assert digest_results(stored.results.resolve()) == local
    assert stored.plan(*store_in(endpoint), environment=ACCOUNT) == {}
    # A folder of the copies is one of results, too.
    assert stored.plan() == {}
    for one in open_bucket(endpoint).objects.filter(Prefix="runs/results/"):
        path = tmp_path / one.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.get()["Body"].read())
    del local["plan.json"]
    assert digest_results(tmp_path / "runs/results/tiny") == local
    monkeypatch.chdir(stored.folder)
    verify(["results/tiny"])
    assert "52 artifacts: 0 damaged, 0 missing, 0 out of date" in capsys.readouterr().out


def test_another_machine_goes_on_from_the_copies(stored, endpoint, tmp_path):
    other = copy_project(tmp_path)
    for one in open_bucket(endpoint).objects.filter(Prefix="runs/"):
        path = other.folder / COPIES / one.key.removeprefix("runs/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.get()["Body"].read())
    assert other.plan(*store_in(endpoint), environment=ACCOUNT) == {}
    assert os.readlink(other.folder / "results") == f"{COPIES}/results"


def test_what_would_go_wrong_is_refused(stored, endpoint, tmp_path):
    project = copy_project(tmp_path)
    options = [option for option in store_in(endpoint) if option != "--keep-storage-local-copies"]
    done = project.snakemake("--dry-run", "--cores", "1", *options, check=False, environment=ACCOUNT)
    assert done.returncode
    assert "With --default-storage-provider add --keep-storage-local-copies" in done.stdout
    (project.folder / "results").mkdir()
    done = project.snakemake("--dry-run", "--cores", "1", *store_in(endpoint), check=False, environment=ACCOUNT)
    assert done.returncode
    assert "'results' is here already, and not the copy of what lies below s3://lab/runs" in done.stdout

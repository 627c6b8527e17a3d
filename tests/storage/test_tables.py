import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.storage import tables
from stages.storage.contracts import AUDIT, CONTRACTS, DENSITY, EXPORT, FEATURES, IDENTITY, WEIGHTS, ContractError
from stages.storage.files import digest_file, write_json
from stages.storage.provenance import list_versions
from stages.storage.tables import Provenance, open_writer, read_any, read_metadata, read_table, write_table

FEATURES_METADATA = {
    "dataset": "x",
    "dim": 4,
    "dtype": "float32",
    "normalize": "l2",
    "classes": {"pose": ["a", "b"]},
}
DENSITY_METADATA = {
    "dataset": "x",
    "classes": ["a"],
    "density_cutoff": {"a": 0.5},
    "cutoff_quantile": 0.6,
    "mode": "auto",
    "exact": True,
    "sampled": {},
}
PROVENANCE = Provenance("test", {"κ": 0.6}, [])


def draw_features(n_samples=20, start=0):
    rng = np.random.default_rng(start)
    return {
        "sample_id": np.arange(start, start + n_samples),
        "features_pose": rng.normal(size=(n_samples, 4)).astype(np.float32),
        "soft_label_pose": rng.dirichlet([1, 1], n_samples).astype(np.float32),
    }


def draw_density(n_samples=10):
    return {
        "sample_id": np.arange(n_samples),
        "pseudo_label": np.zeros(n_samples, dtype=np.int32),
        "group_size": np.full(n_samples, n_samples),
        "local_density": np.arange(n_samples),
        "density_weight": np.linspace(0, 1, n_samples),
    }


def write_density(path, columns, metadata=DENSITY_METADATA):
    write_table(path, DENSITY, columns, metadata=metadata, provenance=PROVENANCE)


def test_what_is_written_is_read(tmp_path):
    columns = draw_features()
    write_table(tmp_path / "f.parquet", FEATURES, columns, metadata=FEATURES_METADATA, provenance=PROVENANCE)
    table = read_table(tmp_path / "f.parquet", FEATURES)
    for name, values in columns.items():
        np.testing.assert_array_equal(table[name], values)
        assert table[name].dtype == values.dtype
    assert table.metadata["classes"] == {"pose": ["a", "b"]}
    assert table.metadata["stage"] == "test"
    assert table.metadata["parameters"] == {"κ": 0.6}


def test_feature_columns_are_plain_fixed_size_bytes(tmp_path):
    path = tmp_path / "f.parquet"
    write_table(path, FEATURES, draw_features(), metadata=FEATURES_METADATA, provenance=PROVENANCE)
    schema = pq.read_schema(path)
    assert schema.field("features_pose").type == pa.binary(16)
    assert not schema.field("features_pose").nullable
    assert schema.field("soft_label_pose").type == pa.list_(pa.float32())
    column = pq.read_metadata(path).row_group(0).column(1)
    assert column.path_in_schema == "features_pose"
    assert column.compression == "UNCOMPRESSED"
    assert not column.has_dictionary_page
    assert json.loads(schema.metadata[b"dim"]) == 4
    assert json.loads(schema.metadata[b"dtype"]) == "float32"


def test_rows_come_in_row_groups_and_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BYTES_PER_ROW_GROUP", 600)
    path = tmp_path / "f.parquet"
    with open_writer(path, FEATURES, metadata=FEATURES_METADATA, provenance=PROVENANCE) as writer:
        for start in range(0, 60, 20):
            writer.write(draw_features(20, start))
    assert pq.read_metadata(path).num_row_groups > 1
    expected = np.concatenate([draw_features(20, start)["features_pose"] for start in range(0, 60, 20)])
    np.testing.assert_array_equal(read_table(path, FEATURES)["features_pose"], expected)


def test_rows_out_of_order_are_refused(tmp_path):
    def write():
        path = tmp_path / "f.parquet"
        with open_writer(path, FEATURES, metadata=FEATURES_METADATA, provenance=PROVENANCE) as writer:
            writer.write(draw_features(20, 20))
            writer.write(draw_features(20, 0))

    with pytest.raises(ContractError, match="sample_id must increase"):
        write()
    assert os.listdir(tmp_path) == []


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for folder in "ab":
        write_density(tmp_path / folder / "density.parquet", draw_density())
    assert (tmp_path / "a/density.parquet").read_bytes() == (tmp_path / "b/density.parquet").read_bytes()


def test_nulls_stand_for_what_was_not_computed(tmp_path):
    n = 3
    columns = {
        "sample_id": np.arange(n),
        "pseudo_label": np.zeros(n, dtype=np.int32),
        "pseudo_class": np.array(["a"] * n, dtype=object),
        "confidence_weight": np.full(n, 0.5),
        "density_weight": np.full(n, np.nan),
        "confident_weight": np.full(n, np.nan),
        "sample_distance": np.full(n, np.nan),
        "distribution_weight": np.full(n, np.nan),
        "selection_weight": np.ones(n),
    }
    path = tmp_path / "w.parquet"
    write_table(
        path, WEIGHTS, columns, metadata={"dataset": "x", "classes": ["a"], "selection": 1}, provenance=PROVENANCE
    )
    assert pq.read_table(path)["density_weight"].null_count == n
    assert np.isnan(read_table(path, WEIGHTS)["density_weight"]).all()
    columns["selection_weight"] = np.full(n, np.nan)
    with pytest.raises(ContractError, match="selection_weight must be finite"):
        write_table(
            path, WEIGHTS, columns, metadata={"dataset": "x", "classes": ["a"], "selection": 1}, provenance=PROVENANCE
        )


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("density_weight", 1.5, "density_weight must be at most 1; 1 values do not, the first in row 3: 1.5"),
        ("density_weight", np.nan, "density_weight must be finite"),
        ("local_density", -1, "local_density must be at least 0"),
        ("sample_id", 2, "sample_id must be unique and increasing; row 3 holds 2"),
    ],
)
def test_values_out_of_range_are_refused_and_nothing_is_written(tmp_path, column, value, message):
    columns = draw_density()
    columns[column][3] = value
    with pytest.raises(ContractError, match=message.replace(";", ".")):
        write_density(tmp_path / "d.parquet", columns)
    assert os.listdir(tmp_path) == []


def test_probabilities_must_sum_to_one(tmp_path):
    columns = draw_features()
    columns["soft_label_pose"][5] = [0.5, 0.4]
    with pytest.raises(ContractError, match="soft_label_pose must sum to 1 in every row; 1 values do not"):
        write_table(tmp_path / "f", FEATURES, columns, metadata=FEATURES_METADATA, provenance=PROVENANCE)


def test_missing_and_unknown_columns_and_metadata_are_named(tmp_path):
    columns = draw_density()
    del columns["group_size"]
    with pytest.raises(ContractError, match="density table needs the column 'group_size'"):
        write_density(tmp_path / "d", columns)
    with pytest.raises(ContractError, match="density table has no column 'rho'"):
        write_density(tmp_path / "d", {**draw_density(), "rho": np.zeros(10)})
    with pytest.raises(ContractError, match="needs the metadata"):
        write_density(tmp_path / "d", draw_density(), {})
    write_density(tmp_path / "d", draw_density())
    with pytest.raises(ContractError, match="lacks the columns"):
        read_table(tmp_path / "d", DENSITY, ["features_pose"])
    with pytest.raises(ContractError, match=r"is of the kind .*density.*, not features of version 2; delete it and"):
        read_table(tmp_path / "d", FEATURES)


def test_an_empty_table_is_refused(tmp_path):
    with (
        pytest.raises(ContractError, match="must have rows"),
        open_writer(tmp_path / "d", DENSITY, metadata=DENSITY_METADATA, provenance=PROVENANCE),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_flipped_bytes_are_noticed_wherever_they_are(tmp_path):
    path = tmp_path / "f.parquet"
    write_table(path, FEATURES, draw_features(200), metadata=FEATURES_METADATA, provenance=PROVENANCE)
    content = path.read_bytes()
    n_footer = int.from_bytes(content[-8:-4], "little")
    within = np.linspace(0, len(content) - n_footer - 9, 40)
    footer = np.linspace(len(content) - n_footer - 8, len(content) - 1, 200)
    for position in np.concatenate([within, footer]).astype(int):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(ValueError, match=r"f\.parquet: .*; delete it and run snakemake again$"):
            read_table(path, FEATURES)
    path.write_bytes(content)
    assert len(read_table(path, FEATURES)) == 200


def test_a_seal_is_a_plain_entry_that_names_like_it_do_not_disturb(tmp_path):
    path = tmp_path / "d.parquet"
    name = "\x18\x06digest\x18Gsha256:" + 64 * "0"
    columns = {"weight": np.array([name] * 3, dtype=object), "fifth": np.ones(3, dtype=np.int32)}
    columns |= {"n_samples": np.ones(3, dtype=np.int64)}
    columns |= {key: np.ones(3) for key in ("lowest", "highest", "pseudo_label_accuracy")}
    metadata = {"pseudo_label_accuracy": 1.0, "estimates": {}, name: name}
    write_table(path, AUDIT, columns, metadata=metadata, provenance=PROVENANCE)
    assert read_table(path, AUDIT).metadata[name] == name
    assert pq.read_table(path)["weight"].to_pylist() == [name] * 3
    sealed = pq.read_metadata(path).metadata[b"digest"]
    assert path.read_bytes().count(sealed) == 1
    path.write_bytes(path.read_bytes().replace(sealed, b"sha256:" + 64 * b"0"))
    assert digest_file(path).encode() == sealed


def test_a_table_without_a_seal_is_of_an_earlier_version(tmp_path):
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"sample_id": [1]}), path)
    with pytest.raises(ValueError, match=r"d\.parquet: was written by an earlier version of this project; delete it"):
        read_table(path, DENSITY)


def test_every_artifact_says_what_it_is_and_where_it_comes_from(tmp_path):
    provenance = Provenance("test", {"κ": 0.6}, [], device="cuda", precision="float32")
    write_table(tmp_path / "d.parquet", DENSITY, draw_density(), metadata=DENSITY_METADATA, provenance=provenance)
    content = dict.fromkeys(EXPORT.keys, 0)
    write_json(tmp_path / "e.json", EXPORT, content, provenance)
    for name, contract in (("d.parquet", DENSITY), ("e.json", EXPORT)):
        found = read_any(tmp_path / name)
        assert CONTRACTS[found["contract"]["name"]] is contract
        assert {key: found[key] for key in IDENTITY} == {
            "contract": {"name": contract.name, "version": contract.version},
            "path": name,
            "stage": "test",
            "parameters": {"κ": 0.6},
            "inputs": {},
            "versions": list_versions(),
            "device": "cuda",
            "precision": "float32",
        }
    (tmp_path / "user.json").write_text("[1]")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "user.parquet")
    for name in ("user.json", "user.parquet"):
        with pytest.raises(ContractError, match=rf"{name}: is of no kind that this version of the project knows"):
            read_any(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense", None])
def test_a_file_that_is_no_table_is_one_line(tmp_path, content):
    path = tmp_path / "f.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"f\.parquet: .* run snakemake") as error:
        read_table(path, FEATURES)
    assert "\n" not in str(error.value)


def test_inputs_are_recorded_by_digest(tmp_path):
    source = tmp_path / "source.parquet"
    write_density(source, draw_density())
    target = tmp_path / "sub" / "target.parquet"
    write_table(
        target,
        DENSITY,
        draw_density(),
        metadata=DENSITY_METADATA,
        provenance=Provenance("test", {}, [source]),
    )
    (name, digest), *_ = read_metadata(target)["inputs"].items()
    assert name == "../source.parquet"
    assert digest.startswith("sha256:")

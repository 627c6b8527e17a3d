import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.contracts import DENSITY, FEATURES, WEIGHTS, ContractError
from stages.storage import tables
from stages.storage.tables import Provenance, open_writer, read_metadata, read_table, write_table

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
    "exact": True,
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
    with open_writer(path, FEATURES, FEATURES_METADATA) as writer:
        for start in range(0, 60, 20):
            writer.write(draw_features(20, start))
    assert pq.read_metadata(path).num_row_groups > 1
    expected = np.concatenate([draw_features(20, start)["features_pose"] for start in range(0, 60, 20)])
    np.testing.assert_array_equal(read_table(path, FEATURES)["features_pose"], expected)


def test_rows_out_of_order_are_refused(tmp_path):
    def write():
        with open_writer(tmp_path / "f.parquet", FEATURES, FEATURES_METADATA) as writer:
            writer.write(draw_features(20, 20))
            writer.write(draw_features(20, 0))

    with pytest.raises(ContractError, match="sample_id must increase"):
        write()
    assert os.listdir(tmp_path) == []


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_density(tmp_path / name, draw_density())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


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
        read_table(tmp_path / "d", FEATURES, ["features_pose"])


def test_an_empty_table_is_refused(tmp_path):
    with (
        pytest.raises(ContractError, match="must have rows"),
        open_writer(tmp_path / "d", DENSITY, DENSITY_METADATA),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "f.parquet"
    columns = draw_features(200)
    write_table(path, FEATURES, columns, metadata=FEATURES_METADATA, provenance=PROVENANCE)
    content = bytearray(path.read_bytes())
    position = content.find(columns["features_pose"][100].tobytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"f\.parquet: is damaged .* delete it and run snakemake again"):
        read_table(path, FEATURES)


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

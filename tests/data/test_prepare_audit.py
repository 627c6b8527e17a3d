import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.data import prepare_images
from stages.data.prepare_audit import main
from stages.storage.contracts import AUDIT_LABELS, MANIFEST
from stages.storage.files import digest_file
from stages.storage.tables import read_table

SPLITS = ("train", "validation", "test")
SETTINGS = {
    "source": "table",
    "task": "age",
    "path": "labels.csv",
    "columns": {"path": "path", "label": "age", "split": "split", "audit": {"gender": "sex"}},
    "split": "column",
}
ROWS = """path,age,split,sex,mood
d.png,old,train,female,glad
b.png,old,train,,sad
a.png,young,train,male,
bad.png,young,train,female,sad
e.png,old,validation,,
f.png,young,test,male,glad
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "labels.csv").write_text(ROWS)
    for name in "abdef":
        Image.new("L", (4, 4), 10 * ord(name) % 256).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_text("no image")
    return tmp_path


def run_both(root, settings=SETTINGS):
    prepare(root, settings)
    return audit(root, settings)


def prepare(root, settings):
    prepare_images.main(
        [
            *("--dataset", "people", "--settings", json.dumps(settings), "--data-root", str(root)),
            *("--height", "4", "--width", "4", "--channels", "1", "--on-error", "skip"),
            *("--tables", *(str(root / f"out/{split}.parquet") for split in SPLITS)),
            *("--images", *(str(root / f"out/{split}.npy") for split in SPLITS)),
        ]
    )


def audit(root, settings, dataset="people", splits=SPLITS):
    outputs = {split: root / f"out/audit/{split}.parquet" for split in splits}
    main(
        [
            *("--dataset", dataset, "--settings", json.dumps(settings), "--data-root", str(root)),
            *("--splits", *splits, "--tables", *(str(root / f"out/{split}.parquet") for split in splits)),
            *("--outputs", *map(str, outputs.values())),
        ]
    )
    return outputs


def test_labels_held_back_stand_beside_the_samples_of_the_manifest(folder):
    outputs = run_both(folder)
    for split, expected in (("train", ["male", None, "female"]), ("validation", [None]), ("test", ["male"])):
        table = read_table(outputs[split], AUDIT_LABELS)
        manifest = read_table(folder / f"out/{split}.parquet", MANIFEST)
        assert table.columns.keys() == {"sample_id", "audit_gender"}
        assert table["sample_id"].tolist() == manifest["sample_id"].tolist()
        assert table["audit_gender"].tolist() == expected
        assert {key: table.metadata[key] for key in ("dataset", "split", "stage")} == {
            "dataset": "people",
            "split": split,
            "stage": "prepare_audit",
        }
        assert table.metadata["inputs"] == {f"../{split}.parquet": digest_file(folder / f"out/{split}.parquet")}
        assert table.metadata["parameters"]["audit"] == {"gender": "sex"}
        assert "path" not in table.metadata["parameters"]["settings"]
    # Numbered among all samples: bad.png, which is no image, is sample 2.
    assert read_table(outputs["train"], AUDIT_LABELS)["sample_id"].tolist() == [0, 1, 3]


def test_a_further_audit_column_leaves_images_and_manifests_as_they_are(folder):
    run_both(folder)
    before = {path.name: path.read_bytes() for path in (folder / "out").glob("*.*")}
    columns = {**SETTINGS["columns"], "audit": {"gender": "sex", "mood": "mood"}}
    outputs = run_both(folder, {**SETTINGS, "columns": columns})
    assert {path.name: path.read_bytes() for path in (folder / "out").glob("*.*")} == before
    assert len(before) == 6
    assert read_table(outputs["train"], AUDIT_LABELS)["audit_mood"].tolist() == [None, "sad", "glad"]


def test_nothing_is_decoded(folder):
    before = {split: path.read_bytes() for split, path in run_both(folder).items()}
    for path in folder.glob("*.png"):
        path.write_text("no image any more")
    assert {split: path.read_bytes() for split, path in audit(folder, SETTINGS).items()} == before


def test_labels_drawn_with_a_face_are_held_back(tmp_path):
    samples = {"train": 10, "validation": 6, "test": 5}
    settings = {"source": "synthetic_faces", "task": "pose", "style": "dark_noisy", "seed": 3, "samples": samples}
    table = read_table(run_both(tmp_path, settings)["test"], AUDIT_LABELS)
    assert table["sample_id"].tolist() == [16, 17, 18, 19, 20]
    assert set(table["audit_expression"]) == {"angry", "happy", "neutral", "sad", "surprised"}


@pytest.mark.parametrize("change", ["gone", "new", "moved", "dataset", "split"])
def test_a_manifest_of_other_samples_is_refused(folder, change):
    prepare(folder, SETTINGS)
    dataset, splits = "people", ("test",)
    if change == "gone":
        (folder / "labels.csv").write_text(ROWS.replace("f.png,young,test", "f.png,young,train") + "g.png,old,test,,\n")
    elif change == "new":
        (folder / "labels.csv").write_text(ROWS + "A.png,old,train,,\n")
    elif change == "moved":
        (folder / "labels.csv").write_text(ROWS.replace("bad.png,young,train,female,sad\n", ""))
    elif change == "dataset":
        dataset = "others"
    else:
        (folder / "out/test.parquet").write_bytes((folder / "out/train.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"test\.parquet: its samples are not those that dataset .* has in test now"):
        audit(folder, SETTINGS, dataset, splits)
    assert not (folder / "out/audit").exists()


def test_a_dataset_that_holds_nothing_back_is_refused(folder):
    columns = {name: column for name, column in SETTINGS["columns"].items() if name != "audit"}
    with pytest.raises(ValueError, match=r"^dataset people: has no labels to hold back; name some in columns\.audit"):
        run_both(folder, {**SETTINGS, "columns": columns})
    assert "audit_gender" not in pq.read_schema(folder / "out/train.parquet").names


def test_errors_of_the_source_and_unequal_options_are_said(folder):
    prepare(folder, SETTINGS)
    with pytest.raises(ValueError, match=r"^dataset people: .*no\.csv: does not exist"):
        audit(folder, {**SETTINGS, "path": "no.csv"})
    with pytest.raises(ValueError, match="--splits, --tables and --outputs must name equally many"):
        main(["--dataset", "people", "--settings", "{}", "--tables", "a", "--outputs", "b"])

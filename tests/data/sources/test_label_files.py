import json
import subprocess
import sys

from stages.data.sources.label_files import audit_settings, decisive_settings, list_label_files
from stages.data.sources.registry import READERS

TABLE = {
    "task": "age",
    "source": "table",
    "path": "labels/all.csv",
    "images": "pictures",
    "columns": {"path": "file", "label": "age", "split": "part", "audit": {"gender": "sex"}},
    "split": "column",
    "part": [0, 0.5],
}


def list_modules(code):
    code = f"import json, sys; {code}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_planning_imports_nothing_heavy():
    modules = list_modules("import stages.settings.checks, stages.data.sources.label_files")
    assert not modules & {"numpy", "PIL", "pyarrow", "torch"}
    assert {f"stages.data.sources.{name}" for name in READERS} <= modules


def test_reading_one_source_imports_no_other_reader(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("path,label,split\na.png,x,train\nb.png,y,train\nc.png,x,validation\nd.png,x,test\n")
    settings = {"source": "table", "task": "t", "path": path.name, "columns": {"path": "path", "label": "label"}}
    settings["columns"]["split"] = "split"
    code = f"import stages.data.prepare_images as stage; stage.read_source({settings!r}, {str(tmp_path)!r})"
    assert {name for name in READERS if f"stages.data.sources.{name}" in list_modules(code)} == {"table"}


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def list_names(root, source, **settings):
    files = list_label_files({"source": source, "task": "t", "path": "data", **settings}, root)
    return [file.relative_to(root / "data").as_posix() for file in files]


def test_label_files_are_those_that_are_read(tmp_path):
    read = ["Anno/list_bbox.txt", "Anno/list_category_cloth.txt", "Anno/list_category_img.txt"]
    others = ["Anno/list_attr_img.txt", "Anno_coarse/list_bbox.txt", "Img/img/a.jpg"]
    write(tmp_path / "data", *read, *others, "aflw.sqlite", "MIT/archive/Label.txt", "GRID/archive/Label.txt")
    assert list_names(tmp_path, "deepfashion") == read
    assert list_names(tmp_path, "deepfashion", crop=False) == read[1:]
    for name in read:
        (tmp_path / "data" / name).unlink()
    assert list_names(tmp_path, "deepfashion") == ["Anno_coarse/list_bbox.txt"]
    assert list_names(tmp_path, "aflw") == ["aflw.sqlite"]
    assert list_names(tmp_path, "peta") == ["GRID/archive/Label.txt", "MIT/archive/Label.txt"]
    assert list_names(tmp_path, "image_folder") == []
    assert list_names(tmp_path, "table", path="data/no.csv") == []
    assert list_label_files({**TABLE, "path": "data/aflw.sqlite"}, tmp_path) == [tmp_path / "data/aflw.sqlite"]


def test_synthetic_faces_have_no_label_files(tmp_path):
    assert list_label_files({"source": "synthetic_faces", "task": "pose"}, tmp_path) == []


def test_settings_are_parted_into_what_decides_and_what_is_held_back():
    before = json.dumps(TABLE)
    assert decisive_settings(TABLE) == {
        "task": "age",
        "source": "table",
        "columns": {"path": "file", "label": "age", "split": "part"},
        "split": "column",
        "part": [0, 0.5],
    }
    assert audit_settings(TABLE) == {"gender": "sex"}
    assert json.dumps(TABLE) == before
    assert audit_settings({"source": "sfew", "task": "t", "path": "p"}) == {}

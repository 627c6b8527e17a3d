import errno
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stages.data import prepare_images
from stages.data.prepare_images import main
from stages.data.sources.base import EXTENSIONS
from stages.storage.contracts import IMAGE_CACHE, MANIFEST
from stages.storage.files import digest_file, read_json
from stages.storage.provenance import list_versions
from stages.storage.tables import read_table

SPLITS = ("train", "validation", "test")
FILES = {f"{split}.{kind}" for split in SPLITS for kind in ("npy", "parquet")}
FACES = {"source": "synthetic_faces", "task": "pose", "style": "dark_noisy", "seed": 3}
FOLDER = {"source": "image_folder", "task": "kind", "path": "images"}
BAD = {
    "train/a/bomb.png": "has more than 5000 pixels (images.max_pixels or --max-pixels)",
    "train/a/float.tif": "holds floating-point pixels, whose range is not defined; save it with 8 or 16 bits",
    "train/a/text.jpg": "is not an image",
    "train/b/cut.jpg": "is damaged (",
    "train/b/empty.png": "is not an image",
    "test/b/gone.png": "does not exist",
}


def prepare(root, settings, *options, height=8, width=6, channels=3):
    outputs = root / "out"
    main(
        [
            *("--dataset", "snaps", "--settings", json.dumps(settings), "--data-root", str(root)),
            *("--height", str(height), "--width", str(width), "--channels", str(channels), "--max-pixels", "5000"),
            *("--tables", *(str(outputs / f"{split}.parquet") for split in SPLITS)),
            *("--images", *(str(outputs / f"{split}.npy") for split in SPLITS)),
            *options,
        ]
    )
    return outputs


def read_split(outputs, split):
    return read_table(outputs / f"{split}.parquet", MANIFEST), np.load(outputs / f"{split}.npy", mmap_mode="r")


@pytest.fixture
def folder(tmp_path):
    """Ten good images, each of a grey of its own that follows the order of the manifest."""
    names = ["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"]
    names += ["validation/a/1.png", "validation/b/1.png"]
    names += ["test/a/1.png", "test/a/2.png", "test/b/1.png", "test/b/2.png"]
    for number, name in enumerate(names):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 16), 10 * number).save(path)
    return tmp_path


@pytest.fixture
def broken_folder(folder):
    images = folder / "images"
    Image.new("L", (100, 51)).save(images / "train/a/bomb.png")
    Image.new("F", (4, 4), 0.5).save(images / "train/a/float.tif")
    (images / "train/a/text.jpg").write_text("These are words.")
    (images / "train/b/empty.png").write_bytes(b"")
    (images / "test/b/gone.png").symlink_to("nowhere.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "JPEG")
    (images / "train/b/cut.jpg").write_bytes(encoded.getvalue()[:1500])
    return folder


def test_manifest_and_images(folder):
    outputs = prepare(folder, FOLDER)
    assert {path.name for path in outputs.iterdir()} == FILES
    four, two = ["a/1", "a/2", "b/1", "b/2"], ["a/1", "b/1"]
    for split, first, names in (("train", 0, four), ("validation", 4, two), ("test", 6, four)):
        table, images = read_split(outputs, split)
        assert table["sample_id"].tolist() == [first + place for place in range(len(names))]
        assert table["path"].tolist() == [f"{split}/{name}.png" for name in names]
        assert table["label_kind"].tolist() == [name[0] for name in names]
        assert images.dtype == np.uint8
        assert images.shape == (len(names), 8, 6, 3)
        assert (images == (10 * table["sample_id"])[:, None, None, None]).all()
        assert table.metadata == {
            "dataset": "snaps",
            "tasks": ["kind"],
            "split": split,
            "classes": {"kind": ["a", "b"]},
            "image_shape": [8, 6, 3],
            "images_digest": digest_file(outputs / f"{split}.npy"),
            "skipped": [],
            "stage": "prepare_images",
            "parameters": {
                "settings": {"source": "image_folder", "task": "kind"},
                "height": 8,
                "width": 6,
                "channels": 3,
                "fit": "stretch",
                "max_pixels": 5000,
                "on_error": "stop",
            },
            "inputs": {},
            "contract": {"name": "manifest", "version": 1},
            "path": f"{split}.parquet",
            "versions": list_versions(),
            "device": None,
            "precision": None,
        }


def test_artifacts_do_not_name_their_folder(folder):
    outputs = prepare(folder, {**FOLDER, "path": str(folder / "images")})
    assert not any(str(folder).encode() in path.read_bytes() for path in outputs.iterdir())


def test_images_are_what_numpy_saves(folder, tmp_path):
    outputs = prepare(folder, FOLDER, channels=1)
    np.save(tmp_path / "saved.npy", np.load(outputs / "train.npy"))
    assert (outputs / "train.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_one_split_keeps_its_sample_ids(folder):
    both = prepare(folder, FOLDER)
    main(
        [
            *("--dataset", "snaps", "--settings", json.dumps(FOLDER), "--data-root", str(folder)),
            *("--height", "8", "--width", "6", "--max-pixels", "5000", "--splits", "test"),
            *("--tables", str(folder / "one/test.parquet"), "--images", str(folder / "one/test.npy")),
        ]
    )
    for name in ("test.npy", "test.parquet"):
        assert (folder / "one" / name).read_bytes() == (both / name).read_bytes()


def test_workers_change_nothing(tmp_path):
    settings = {**FACES, "samples": {"train": 150, "validation": 10, "test": 20}}
    contents = []
    for n_workers in ("1", "3"):
        root = tmp_path / n_workers
        outputs = prepare(root, settings, "--workers", n_workers, height=16, width=16)
        contents.append({path.name: path.read_bytes() for path in outputs.iterdir()})
    assert contents[0].keys() == FILES
    assert contents[0] == contents[1]


def test_drawn_faces_differ_and_what_is_held_back_stands_elsewhere(tmp_path):
    outputs = prepare(tmp_path, {**FACES, "samples": {"train": 10, "validation": 6, "test": 5}})
    table, images = read_split(outputs, "test")
    assert table.columns.keys() == {"sample_id", "path", "label_pose"}
    assert table["sample_id"].tolist() == [16, 17, 18, 19, 20]
    assert len(np.unique(images.reshape(5, -1), axis=0)) == 5


def test_bad_images_are_all_listed(broken_folder):
    with pytest.raises(ValueError, match="6 of 16") as caught:
        prepare(broken_folder, FOLDER)
    first, *others = str(caught.value).splitlines()
    assert first == (
        "dataset snaps: 6 of 16 images cannot be used; mend or remove them, or set images.on_error to skip:"
    )
    for line, (path, reason) in zip(others, BAD.items(), strict=True):
        assert line.startswith(f"  {path}: {reason}")
    assert list((broken_folder / "out").iterdir()) == []


def test_bad_images_leave_older_results_alone(folder):
    outputs = prepare(folder, FOLDER)
    before = {path.name: path.read_bytes() for path in outputs.iterdir()}
    (folder / "images/test/a/1.png").write_text("no image")
    with pytest.raises(ValueError, match="1 of 10 images"):
        prepare(folder, FOLDER)
    assert {path.name: path.read_bytes() for path in outputs.iterdir()} == before


def test_bad_images_can_be_skipped(broken_folder, tmp_path):
    outputs = prepare(broken_folder, FOLDER, "--on-error", "skip")
    table, images = read_split(outputs, "train")
    # Numbered among all samples, good and bad.
    assert dict(zip(table["path"], table["sample_id"], strict=True)) == {
        "train/a/1.png": 0,
        "train/a/2.png": 1,
        "train/b/1.png": 5,
        "train/b/2.png": 6,
    }
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert [path for path, _ in table.metadata["skipped"]] == [path for path in BAD if path.startswith("train")]
    np.save(tmp_path / "saved.npy", images)
    assert (outputs / "train.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    table, images = read_split(outputs, "test")
    assert table["sample_id"].tolist() == [11, 12, 13, 14]
    assert table.metadata["skipped"] == [["test/b/gone.png", "does not exist"]]
    assert images[:, 0, 0, 0].tolist() == [60, 70, 80, 90]
    assert str(broken_folder).encode() not in (outputs / "train.parquet").read_bytes()


def test_skipping_must_leave_every_class(folder):
    for number in (1, 2):
        (folder / f"images/test/b/{number}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"snaps: without its 2 bad images nothing is left of class 'b' in test;"):
        prepare(folder, FOLDER, "--on-error", "skip")
    assert list((folder / "out").iterdir()) == []


def test_bomb_limit_is_inclusive(folder):
    Image.new("L", (100, 50), 99).save(folder / "images/train/b/3.png")
    images = read_split(prepare(folder, FOLDER), "train")[1]
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 99]


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 10 10 rectfill\nshowpage\n"


def test_postscript_is_no_image_whatever_its_name(folder):
    """Pillow would start Ghostscript on it."""
    (folder / "images/train/a/face.png").write_bytes(POSTSCRIPT)
    with pytest.raises(ValueError, match=r"1 of 11 images cannot be used.*\n  train/a/face\.png: is not an image$"):
        prepare(folder, FOLDER)


def test_what_cameras_write_as_jpg_is_an_image(folder):
    path = folder / "images/train/b/3.jpg"
    Image.new("L", (12, 16), 99).save(path, "MPO", save_all=True, append_images=[Image.new("L", (12, 16), 3)])
    with Image.open(path) as image:
        assert image.format == "MPO"
    images = read_split(prepare(folder, FOLDER), "train")[1]
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 99]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_extension_has_its_format(folder, extension):
    Image.new("L", (12, 16), 99).save(folder / f"images/train/b/3{extension}")
    images = read_split(prepare(folder, FOLDER), "train")[1]
    assert images[-1, 0, 0, 0] == pytest.approx(99, abs=2)


def test_errors_of_the_source_name_the_dataset(folder):
    with pytest.raises(ValueError, match=r"^dataset snaps: .*nowhere: is not a folder"):
        prepare(folder, {**FOLDER, "path": "nowhere"})


def test_a_carved_validation_split_is_prepared_and_its_settings_are_recorded(tmp_path):
    for number in range(24):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(path)
    settings = {**FOLDER, "split": {"test": 0.25, "seed": 0}, "validation": 0.25, "samples": 8, "seed": 1}
    outputs = prepare(tmp_path, settings)
    tables = {split: read_split(outputs, split)[0] for split in SPLITS}
    # A quarter of 12 for testing and of the other 9 for validation, 2.25 and rounded, in each class.
    assert {split: len(table) for split, table in tables.items()} == {"train": 8, "validation": 4, "test": 6}
    assert np.concatenate([table["sample_id"] for table in tables.values()]).tolist() == list(range(18))
    assert len({path for table in tables.values() for path in table["path"]}) == 18
    for split, table in tables.items():
        assert sorted(table["label_kind"].tolist()) == ["a"] * (len(table) // 2) + ["b"] * (len(table) // 2)
        images = read_split(outputs, split)[1]
        assert images[:, 0, 0, 0].tolist() == [10 * int(path[2:4]) for path in table["path"]]
        recorded = table.metadata["parameters"]["settings"]
        assert {key: recorded[key] for key in ("validation", "samples", "seed")} == {
            "validation": 0.25,
            "samples": 8,
            "seed": 1,
        }


def test_images_elsewhere_are_refused_unless_that_is_permitted(folder, tmp_path):
    root = folder / "root"
    root.mkdir()
    paths = sorted((folder / "images").rglob("*.png"))
    rows = [f"{path},{path.parts[-2]},{path.parts[-3]}\n" for path in paths]
    (root / "labels.csv").write_text("path,kind,split\n" + "".join(rows))
    columns = {"path": "path", "label": "kind", "split": "split"}
    settings = {"source": "table", "task": "kind", "path": "labels.csv", "columns": columns, "split": "column"}
    with pytest.raises(
        ValueError, match=r"^dataset snaps: .*labels\.csv: row 1: '/.*/images/test/a/1\.png' lies outside"
    ):
        prepare(root, settings)
    table, images = read_split(prepare(root, settings, "--outside-data-root", "allow"), "train")
    assert table["path"].tolist() == [f"../images/train/{name}.png" for name in ("a/1", "a/2", "b/1", "b/2")]
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    # Where the data lies is no part of what is recorded, nor is what was permitted.
    assert table.metadata["parameters"]["settings"] == {
        name: value for name, value in settings.items() if name != "path"
    }
    assert "outside_data_root" not in table.metadata["parameters"]


ODD = ["new\nline.png", "'\"`$(touch x)`.png", "<script>alert(1)<.png", "{settings}%s.png", "tab\t\u202egnp.png"]


def test_odd_names_are_mere_names(folder, capsys):
    for number, name in enumerate(ODD):
        Image.new("L", (12, 16), 100 + number).save(folder / "images/train/a" / name)
    (folder / "images/train/b/no\nimage.png").write_text("no image")
    with pytest.raises(ValueError, match=r"1 of 16 images") as caught:
        prepare(folder, FOLDER)
    assert str(caught.value).splitlines()[1:] == [r"  train/b/no\nimage.png: is not an image"]
    table, images = read_split(prepare(folder, FOLDER, "--on-error", "skip"), "train")
    grey = dict(zip(table["path"], images[:, 0, 0, 0].tolist(), strict=True))
    assert [grey[f"train/a/{name}"] for name in ODD] == [100, 101, 102, 103, 104]
    assert table.metadata["skipped"] == [["train/b/no\nimage.png", "is not an image"]]
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_name_that_is_no_text_is_said_in_one_line(folder):
    path = os.fsencode(folder) + b"/images/train/a/\xff.png"
    Image.new("L", (12, 16)).save(os.fsdecode(path))
    with pytest.raises(ValueError, match=r"images: has names that are not UTF-8 text: 'train/a/\\udcff\.png'; rename"):
        prepare(folder, FOLDER)


def list_entries(cache):
    return sorted(path.name for path in cache.iterdir())


def read_bytes(outputs):
    return {path.name: path.read_bytes() for path in outputs.iterdir()}


@pytest.fixture
def cached(folder, monkeypatch):
    """Prepare with a cache; says which images were decoded."""
    decoded = []
    decode = prepare_images.decode_in_order
    monkeypatch.setattr(
        prepare_images,
        "decode_in_order",
        lambda decoder, samples, n_workers: decoded.extend(samples) or decode(decoder, samples, n_workers),
    )

    def prepare_cached(*options, settings=FOLDER, identity="x", **shape):
        decoded.clear()
        cache = ("--cache", str(folder / "cache"), "--identity", identity)
        outputs = prepare(folder, settings, *cache, *options, **shape)
        return read_bytes(outputs), len(decoded)

    return prepare_cached


def test_images_decoded_before_are_linked_and_the_result_is_the_same(folder, cached, capsys):
    plain = read_bytes(prepare(folder, FOLDER))
    first, n_first = cached()
    assert n_first == 10
    shutil.rmtree(folder / "out")
    second, n_second = cached()
    assert n_second == 0
    assert first == second == plain
    [entry] = list_entries(folder / "cache")
    assert capsys.readouterr().out == f"dataset snaps: its images were decoded before, see {folder}/cache/{entry}\n"
    for split in SPLITS:
        assert (folder / f"out/{split}.npy").samefile(folder / f"cache/{entry}/{split}.npy")
    record = read_json(folder / f"cache/{entry}/entry.json", IMAGE_CACHE)
    assert record["digests"]["test.npy"] == digest_file(folder / "out/test.npy")


def test_images_are_copied_where_the_disk_cannot_link(folder, cached, monkeypatch):
    def refuse(*paths):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    first, _ = cached()
    second, n_decoded = cached()
    assert n_decoded == 0
    assert first == second
    [entry] = list_entries(folder / "cache")
    assert not (folder / "out/test.npy").samefile(folder / f"cache/{entry}/test.npy")


def test_the_name_of_the_dataset_and_what_is_held_back_share_images(folder, cached):
    rows = [f"images/{path.relative_to(folder / 'images')},{path.parts[-2]},{path.parts[-3]},x\n"
            for path in (folder / "images").rglob("*.png")]  # fmt: skip
    (folder / "labels.csv").write_text("path,kind,split,other\n" + "".join(rows))
    columns = {"path": "path", "label": "kind", "split": "split"}
    settings = {"source": "table", "task": "kind", "path": "labels.csv", "columns": columns, "split": "column"}
    cached(settings=settings)
    held_back = {**settings, "columns": {**columns, "audit": {"more": "other"}}}
    _, n_decoded = cached("--dataset", "others", settings=held_back)
    assert n_decoded == 0
    assert read_split(folder / "out", "train")[0].metadata["dataset"] == "others"
    assert len(list_entries(folder / "cache")) == 1


def test_whatever_decides_the_images_has_an_entry_of_its_own(folder, cached):
    cached()
    changes = [
        lambda: cached(identity="y"),
        lambda: cached(height=9),
        lambda: cached("--fit", "crop"),
        lambda: cached("--on-error", "skip"),
        lambda: cached(settings={**FOLDER, "samples": 2}),
    ]
    for number, change in enumerate(changes, start=2):
        assert change()[1] > 0
        assert len(list_entries(folder / "cache")) == number


def test_a_replaced_image_and_another_folder_are_decoded_anew(folder, cached):
    cached()
    path = folder / "images/train/a/1.png"
    before = path.stat()
    Image.new("L", (12, 16), 200).save(folder / "new.png")
    # Of the same size and time, but another file.
    os.utime(folder / "new.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "new.png").replace(path)
    assert cached()[1] == 10
    assert read_split(folder / "out", "train")[1][0, 0, 0, 0] == 200
    shutil.copytree(folder / "images", folder / "copies")
    assert cached(settings={**FOLDER, "path": "copies"})[1] == 10


@pytest.mark.parametrize("damage", ["flipped", "gone", "record", "keys"])
def test_a_damaged_entry_is_said_removed_and_made_anew(folder, cached, capsys, damage):
    first, _ = cached()
    [name] = list_entries(folder / "cache")
    entry = folder / "cache" / name
    if damage == "flipped":
        content = bytearray(first["validation.npy"])
        content[-1] ^= 1
        (entry / "validation.npy").unlink()
        (entry / "validation.npy").write_bytes(content)
    elif damage == "gone":
        (entry / "test.npy").unlink()
    else:
        (entry / "entry.json").write_text("{" if damage == "record" else "{}")
    capsys.readouterr()
    second, n_decoded = cached()
    assert n_decoded == 10
    assert first == second
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{entry}: is damaged (")
    assert line.endswith("); it is removed and made anew")
    assert list_entries(folder / "cache") == [name]
    assert cached()[1] == 0


def test_skipped_images_are_remembered(broken_folder, cached, capsys):
    first, n_decoded = cached("--on-error", "skip")
    assert n_decoded == 16
    second, n_decoded = cached("--on-error", "skip")
    assert n_decoded == 0
    assert first == second
    assert "left out 6 of 16 images" in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(ValueError, match="6 of 16 images cannot be used"):
        cached()


def test_a_cache_that_cannot_be_written_stops_nothing(folder, cached, capsys):
    (folder / "cache").write_text("a file")
    assert cached()[0] == read_bytes(prepare(folder, FOLDER))
    assert "cannot be written (" in capsys.readouterr().out


def test_processes_that_fill_an_entry_at_once_do_not_disturb_each_other(folder):
    def start(number):
        out = folder / f"out-{number}"
        return subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "stages.data.prepare_images",
                    "--dataset",
                    "snaps",
                    "--height",
                    "8",
                    "--width",
                    "6",
                ),
                *("--settings", json.dumps(FOLDER), "--data-root", str(folder), "--max-pixels", "5000"),
                *("--cache", str(folder / "cache"), "--identity", "x"),
                *("--tables", *(str(out / f"{split}.parquet") for split in SPLITS)),
                *("--images", *(str(out / f"{split}.npy") for split in SPLITS)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    processes = [start(number) for number in range(3)]
    assert all("cannot" not in one.communicate(timeout=60)[0] and one.returncode == 0 for one in processes)
    plain = read_bytes(prepare(folder, FOLDER))
    assert all(read_bytes(folder / f"out-{number}") == plain for number in range(3))
    [entry] = list_entries(folder / "cache")
    assert sorted(os.listdir(folder / "cache" / entry)) == ["entry.json", *(f"{split}.npy" for split in sorted(SPLITS))]


def test_a_cache_needs_an_identity(folder):
    with pytest.raises(ValueError, match="--cache and --identity belong together"):
        prepare(folder, FOLDER, "--cache", str(folder / "cache"))


def test_options_must_pair(folder):
    with pytest.raises(ValueError, match="--splits, --tables and --images must name equally many"):
        prepare(folder, FOLDER, "--splits", "train")


def test_torch_is_not_imported():
    code = (
        "import sys, stages.data.prepare_images; print({'torch', 'torchvision', 'faiss', 'sklearn'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

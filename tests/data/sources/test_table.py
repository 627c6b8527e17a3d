import os
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.data.sources.base import STRICT, Tolerance
from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of

COLUMNS = {"path": "path", "label": "age", "split": "split", "audit": {"gender": "gender"}}
HEADER = "path,age,split,gender\n"
ROWS = "b.png,61+,train,female\na.png,0-12,train,\nd.png,61+,test,male\nc.png,0-12,test,male\ne.png,61+,validation,\n"


def read(root, content=HEADER + ROWS, tolerance=STRICT, **settings):
    if content is not None:
        (root / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(
        {"source": "table", "task": "age", "path": "labels.csv", "columns": COLUMNS, "split": "column", **settings},
        root,
        tolerance,
    )


def test_rows_become_samples(tmp_path):
    manifest = read(tmp_path)
    assert [(one.path, label_of(one), one.split, one.audit["gender"]) for one in manifest.samples] == [
        ("a.png", "0-12", "train", None),
        ("b.png", "61+", "train", "female"),
        ("e.png", "61+", "validation", None),
        ("c.png", "0-12", "test", "male"),
        ("d.png", "61+", "test", "male"),
    ]
    assert classes_of(manifest) == ("0-12", "61+")
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (3, 2)


def test_everything_is_text(tmp_path):
    manifest = read(
        tmp_path, HEADER + "1,007,train,true\n2, NA ,train,1\n3,007,test,\n4,NA,test,1.50\n5,NA, validation ,0\n"
    )
    assert [label_of(one) for one in manifest.samples] == ["007", "NA", "NA", "007", "NA"]
    assert [one.audit["gender"] for one in manifest.samples] == ["true", "1", "0", None, "1.50"]


def test_parquet_equals_csv(tmp_path):
    table = {
        "path": ["b.png", "a.png", "d.png", "c.png", "e.png"],
        "age": pa.array([2, 1, 2, 1, 2]),
        "split": pa.array(["train", "train", "test", "test", "validation"]).dictionary_encode(),
        "gender": ["female", None, "male", "male", None],
        "unused": [[1], [2], [3], [4], [5]],
    }
    pq.write_table(pa.table(table), tmp_path / "labels.parquet")
    from_csv = read(tmp_path, (HEADER + ROWS).replace("61+", "2").replace("0-12", "1"))
    assert read(tmp_path, path="labels.parquet").samples == from_csv.samples


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    content = b"\xef\xbb\xbf" + (HEADER + ROWS).replace("\n", "\r\n").encode()
    assert read(tmp_path, content).samples == read(tmp_path).samples


def test_images_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    Image.new("L", (3, 2)).save(tmp_path / "deep" / "a.png")
    manifest = read(tmp_path, images="deep")
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (3, 2)


def test_absolute_paths_below_the_folder_become_relative(tmp_path):
    assert read(tmp_path, HEADER + ROWS.replace("b.png", f"{tmp_path}/./b.png")).samples == read(tmp_path).samples


@pytest.mark.parametrize("name", ["/far/b.png", "../../secret.png", "deep/../../../secret.png", "{root}/../b.png"])
def test_images_elsewhere_are_refused_unless_that_is_permitted(tmp_path, name):
    name = name.format(root=tmp_path)
    content = HEADER + ROWS.replace("d.png", name)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/labels.csv").write_text(content)
    message = rf"labels\.csv: row 3: '{re.escape(name)}' lies outside .*{tmp_path.name}/labels and .*{tmp_path.name}; "
    with pytest.raises(
        ValueError, match=message + r"correct it, or permit it by images\.outside_data_root: allow"
    ) as caught:
        read(tmp_path, None, path="labels/labels.csv")
    assert "\n" not in str(caught.value)
    manifest = read(tmp_path, None, Tolerance(outside=True), path="labels/labels.csv")
    place = manifest.load.find_file(
        next(one for one in manifest.samples if "d.png" not in one.path and ".." in one.path)
    )
    assert str(place) == os.path.normpath(tmp_path / "labels" / name)


def test_images_may_lie_anywhere_below_data_root_and_beside_the_table(tmp_path):
    (tmp_path / "here/labels").mkdir(parents=True)
    (tmp_path / "pictures").mkdir()
    content = HEADER + ROWS.replace("b.png", "../other/b.png").replace("d.png", f"{tmp_path}/here/labels/d.png")
    (tmp_path / "here/labels/labels.csv").write_text(content)
    root = tmp_path / "here"
    assert "../other/b.png" in paths_of(read(root, None, path="labels/labels.csv"), "train")
    # The table's folder and that of the images count, too, where they lie outside data_root.
    settings = {"path": "../labels/labels.csv", "images": "../../pictures"}
    (root / "elsewhere").mkdir()
    (root / "labels/labels.csv").write_text(HEADER + ROWS.replace("d.png", f"{tmp_path}/here/labels/d.png"))
    assert "../here/labels/d.png" in paths_of(read(root / "elsewhere", None, **settings), "test")


def test_links_are_followed_and_dots_go_up_by_name(tmp_path):
    """A folder may be a link to another disk: what lies above the link counts, not what lies above its target."""
    for name in ("disk/faces", "root/other", "disk/other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/faces").symlink_to(tmp_path / "disk/faces")
    Image.new("L", (3, 2)).save(tmp_path / "root/other/b.png")
    Image.new("L", (7, 7)).save(tmp_path / "disk/other/b.png")
    Image.new("L", (4, 4)).save(tmp_path / "disk/a.png")
    (tmp_path / "disk/faces/a.png").symlink_to("../a.png")
    (tmp_path / "disk/faces/labels.csv").write_text(HEADER + ROWS.replace("b.png", "../other/b.png"))
    manifest = read(tmp_path / "root", None, path="faces/labels.csv")
    sizes = {}
    for sample in manifest.samples[:2]:
        with manifest.load(sample, 32) as image:
            sizes[sample.path] = image.size
    assert sizes == {"../other/b.png": (3, 2), "a.png": (4, 4)}


def test_ratio_does_not_depend_on_the_order_of_rows(tmp_path):
    rows = [f"{number}.png,{'ab'[number % 2]},,\n" for number in range(20)]
    ratio = {"test": 0.2, "seed": 3}
    first = read(tmp_path, HEADER + "".join(rows), split=ratio).samples
    assert read(tmp_path, HEADER + "".join(rows[::-1]), split=ratio).samples == first
    assert sorted(label_of(one) for one in first if one.split == "test") == ["a", "a", "b", "b"]


def test_split_column_must_be_configured(tmp_path):
    with pytest.raises(ValueError, match=r"`columns` names no split; add it or set `split` to a ratio"):
        read(tmp_path, columns={"path": "path", "label": "age"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            HEADER.replace("age", "ages") + ROWS,
            r"has no column 'age'; did you mean 'ages'\? \(known: .*\); name the right one",
        ),
        (HEADER.replace("gender", "Gender") + ROWS, r"has no column 'gender'; did you mean 'Gender'\?"),
        ("path,age,split,gender,age\n" + ROWS.replace("\n", ",x\n"), r"more than one column 'age'"),
        (HEADER + ROWS + "f.png,,train,male\n", r"column 'age' is empty in row 6; fill it in or remove the row"),
        (HEADER + ROWS + ",61+,train,male\n , 61+,train,male\n", r"column 'path' is empty in row 6 and 1 more"),
        (HEADER + ROWS + "f.png,61+,val,male\n", r"must say train, validation or test, but says 'val' in row 6"),
        (HEADER + ROWS + "f.png,61+,,male\n", r"must say train, validation or test, but says '' in row 6"),
        (HEADER + ROWS + "./a.png,61+,test,male\n", r"lists the same image twice: 'a.png'"),
        (HEADER + ROWS + "f.png,old,test,male\n", r"classes in test that train lacks: 'old'"),
        (HEADER + ROWS + "f.png,old,validation,male\n", r"classes in validation that train lacks: 'old'"),
        (HEADER + ROWS.replace("test", "train"), r"the split 'test' is empty"),
        (
            HEADER + ROWS.replace("validation", "train").replace("b.png,61+,train", "b.png,61+,test"),
            r"'validation' is empty",
        ),
        (HEADER + ROWS.replace("0-12", "61+"), r"has only one class, '61\+'"),
        (HEADER, r"holds no images"),
        ("", r"cannot be read \(Empty CSV file\)"),
        (HEADER + "a.png,61+\n", r"cannot be read \(.*Expected 4 columns, got 2"),
        ((HEADER + ROWS).replace("61+", "é").encode("latin-1"), r"cannot be read \(.*UTF"),
    ],
)
def test_bad_content(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path}/labels.csv: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "other.csv"}, r"other.csv: does not exist; correct `path` or `data_root`"),
        ({"images": "nowhere"}, r"nowhere: is not a folder; correct `images` or `data_root`"),
        ({"classes": ["61+"]}, r"`classes` lacks '0-12'; correct `classes` or leave it out"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **settings)


def test_other_file_types(tmp_path):
    (tmp_path / "labels.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"labels.xlsx: must end in .csv or .parquet"):
        read(tmp_path, path="labels.xlsx")
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"labels.parquet: cannot be read \("):
        read(tmp_path, path="labels.parquet")


def make_rows(n_train=60, own_validation=False):
    """Rows with an age and, of other shares and in another order, a gender."""
    rows = [f"{number:03d}.png,{'abc'[number % 3]},train,{'mf'[number % 7 > 4]}\n" for number in range(n_train)]
    rows += [f"t{number}.png,{'abc'[number]},test,{'mfm'[number]}\n" for number in range(3)]
    if own_validation:
        rows += [f"v{number}.png,{'abc'[number]},validation,{'mfm'[number]}\n" for number in range(3)]
    return HEADER + "".join(rows)


def paths_of(manifest, *splits):
    return {one.path for one in manifest.samples if one.split in splits}


@pytest.mark.parametrize("share", [0.2, 0.37, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_disjoint_parts_of_a_table_share_no_image_whatever_their_labels(tmp_path, share, seed):
    gender = {"path": "path", "label": "gender", "split": "split"}
    first = read(tmp_path, make_rows(), part=[0, share], seed=seed)
    second = read(tmp_path, make_rows(), part=[share, 1], seed=seed, columns=gender, task="gender")
    first, second = paths_of(first, "train", "validation"), paths_of(second, "train", "validation")
    assert not first & second
    assert first | second == {f"{number:03d}.png" for number in range(60)}
    assert abs(len(first) - 60 * share) < 20
    assert first != paths_of(read(tmp_path, make_rows(), part=[0, share], seed=seed + 1), "train", "validation")


def test_a_part_leaves_test_and_own_validation_rows_as_they_are(tmp_path):
    everything = read(tmp_path, make_rows(own_validation=True))
    part = read(tmp_path, make_rows(own_validation=True), part=[0.5, 1])
    assert paths_of(part, "validation") == paths_of(everything, "validation") == {"v0.png", "v1.png", "v2.png"}
    assert paths_of(part, "test") == paths_of(everything, "test")
    assert paths_of(part, "train") < paths_of(everything, "train")


def test_a_part_needs_a_split_that_does_not_follow_the_labels(tmp_path):
    with pytest.raises(ValueError, match="`part` needs the split of a column, not a ratio"):
        read(tmp_path, make_rows(), part=[0, 0.5], split={"test": 0.2})


def test_an_impossible_part_is_named_with_its_file(tmp_path):
    with pytest.raises(ValueError, match=r"\.csv: `part`: a part goes from a share to a larger one"):
        read(tmp_path, make_rows(), part=[0.5, 0.5])


def test_an_image_listed_twice_is_found_whatever_part_is_taken(tmp_path):
    with pytest.raises(ValueError, match=r"lists the same image twice: '000\.png'"):
        read(tmp_path, make_rows() + make_rows().splitlines()[1] + "\n", part=[0.5, 1])


def test_validation_rows_are_a_share_of_every_class(tmp_path):
    samples = read(tmp_path, make_rows(), validation=0.25).samples
    assert Counter(label_of(one) for one in samples if one.split == "validation") == {"a": 5, "b": 5, "c": 5}
    assert Counter(label_of(one) for one in samples if one.split == "train") == {"a": 15, "b": 15, "c": 15}


@pytest.mark.parametrize("own_validation", [False, True])
def test_so_many_training_samples_are_kept_and_the_other_splits_left_alone(tmp_path, own_validation):
    content = make_rows(own_validation=own_validation)
    everything, few = read(tmp_path, content), read(tmp_path, content, samples=12)
    assert Counter(label_of(one) for one in few.samples if one.split == "train") == {"a": 4, "b": 4, "c": 4}
    assert paths_of(few, "train") < paths_of(everything, "train")
    for split in ("validation", "test"):
        assert paths_of(few, split) == paths_of(everything, split)
    assert paths_of(few, "train") != paths_of(read(tmp_path, content, samples=12, seed=5), "train")


def test_all_settings_of_the_training_rows_together_do_not_depend_on_the_order_of_rows(tmp_path):
    settings = {"part": [0.25, 0.75], "validation": 0.2, "samples": 15, "seed": 4}
    first = read(tmp_path, make_rows(), **settings)
    header, *rows = make_rows().splitlines(keepends=True)
    assert read(tmp_path, header + "".join(rows[::-1]), **settings).samples == first.samples
    assert len(paths_of(first, "train")) == 15
    assert len(paths_of(first, "validation")) == pytest.approx(30 * 0.2, abs=2)


@pytest.mark.parametrize("n_samples", [2, 55])
def test_samples_that_cannot_be_drawn_are_named(tmp_path, n_samples):
    # Six of the sixty are kept for validation.
    message = rf"labels\.csv: `samples`: {n_samples} samples cannot be drawn from 54 of 3 classes; ask for 3 to 54"
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, make_rows(), samples=n_samples)
    assert "\n" not in str(caught.value)

import numpy as np
import pytest

from stages.report.draw_samples import main
from tests.conftest import write_split
from tests.report.conftest import HOSTILE, read_drawn, read_texts, write_weights


def draw(folder, split, tables, *options):
    outputs = {name: folder / "out" / f"{name}.svg" for name in ("first", "last")}
    record = folder / "out" / "figures.json"
    main(
        [
            *("--task", "mood", "--weights", *map(str, tables), "--epochs", *map(str, range(1, len(tables) + 1))),
            *("--table", str(split.table), "--images", str(split.images), *options),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
            *("--output-record", str(record)),
        ]
    )
    return outputs, record


def test_the_samples_are_those_with_the_extreme_weights_and_their_verdicts(tmp_path, watch):
    split = write_split(tmp_path, "heads", "pose", ["left", "right"], 40, audit={"mood": HOSTILE}, first_id=100)
    ids = np.arange(101, 140)
    paths = [tmp_path / f"{k}.parquet" for k in (1, 2)]
    tables = [write_weights(path, ids, np.arange(39) % len(HOSTILE), HOSTILE, seed=k) for k, path in enumerate(paths)]
    outputs, record = draw(tmp_path, split, paths, "--audit-table", str(split.audit))
    drawn = read_drawn(record)
    from stages.storage.datasets import read_audit_labels

    _, audited, names = read_audit_labels(split.audit, "mood")
    truth = dict(zip(audited.tolist(), names, strict=True))
    for epoch, table in zip("12", tables, strict=True):
        order = np.argsort(table["selection_weight"])
        assert [one["sample_id"] for one in drawn[epoch]["highest w"]] == ids[order[::-1][:10]].tolist()
        assert [one["sample_id"] for one in drawn[epoch]["lowest w"]] == ids[order[:10]].tolist()
        for one in drawn[epoch]["highest w"]:
            assert one["right"] == (truth[one["sample_id"]] == one["pseudo_class"])
        trusted = drawn[epoch]["highest w of wrong pseudo labels"]
        assert len(trusted) == 10
        assert not any(one["right"] for one in trusted)
    texts = read_texts(outputs["last"])
    assert "wrong" in texts
    assert any("$\\alpha$" in text for text in texts)
    assert not watch.cut


def test_without_labels_held_back_there_is_no_verdict(tmp_path, watch):
    split = write_split(tmp_path, "heads", "pose", ["left", "right"], 4)
    path = tmp_path / "1.parquet"
    write_weights(path, np.arange(4), [0, 1, 0, 1], ["sad", "happy"])
    outputs, record = draw(tmp_path, split, [path])
    drawn = read_drawn(record)["1"]
    assert list(drawn) == ["highest w", "lowest w"]
    assert [one["right"] for one in drawn["lowest w"]] == [None] * 4
    assert not {"right", "wrong"} & set(read_texts(outputs["first"]))
    assert outputs["first"].read_bytes() == outputs["last"].read_bytes()
    assert not watch.cut


def test_images_that_are_not_those_of_the_manifest_are_refused(tmp_path):
    split = write_split(tmp_path, "heads", "pose", ["left", "right"], 4)
    path = tmp_path / "1.parquet"
    write_weights(path, np.arange(4), [0, 1, 0, 1], ["sad", "happy"])
    np.save(split.images, split.pixels[::-1])
    with pytest.raises(ValueError, match="is not the file that"):
        draw(tmp_path, split, [path])

import copy
import io
import json

import pytest

from stages.settings.checks import check_experiment
from stages.tools.check_experiment import main
from tests.settings.test_settings import DEFAULT, METHODS

MTL_SA = {"schedule": "alternating", "selection": ["confidence", "density", "distribution"]}


def write_table(folder, name, rows):
    (folder / f"{name}.csv").write_text("\n".join(["path,label,split,other", *rows]) + "\n")
    return {
        "task": name,
        "source": "table",
        "path": f"{name}.csv",
        "columns": {"path": "path", "label": "label", "split": "split", "audit": {"mood": "other"}},
        "split": "column",
    }


def check(monkeypatch, folder, methods=(MTL_SA,), **changes):
    settings = copy.deepcopy({**DEFAULT, **changes, "data_root": str(folder)})
    settings = check_experiment(settings, METHODS, "config.yaml")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(settings)))
    results = str(folder / "results")
    main(["--settings", "-", "--methods", json.dumps(methods), "--n-seeds", "1", "--results", results])


def make_rows(n_train, other):
    rows = [f"{number}.png,{'ab'[number % 2]},train,{other}" for number in range(n_train)]
    return [*rows, "v.png,a,validation,", "x.png,a,test,", "y.png,b,test,"]


def test_the_default_fits(monkeypatch, tmp_path, capsys):
    check(monkeypatch, tmp_path)
    # 1900 and 2700 images of all three splits.
    assert "will take about 60.3 MB (images 13.5 MB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("n_train", "other", "message"),
    [
        (9, "", "dataset age: no training sample has an audit label for 'mood'; leave it out"),
        (9, "happi", "dataset age: the audit label 'happi' is no class of the task 'mood'; did you mean 'happy'?"),
    ],
)
def test_what_does_not_fit_together_is_said(monkeypatch, tmp_path, n_train, other, message):
    mood = write_table(tmp_path, "mood", [row.replace(",a,", ",happy,") for row in make_rows(9, "")])
    del mood["columns"]["audit"]
    datasets = {"mood": mood, "age": write_table(tmp_path, "age", make_rows(n_train, other))}
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared
        check(monkeypatch, tmp_path, datasets=datasets)
    assert str(error.value).startswith(message)


def test_a_validation_split_that_is_carved_is_missing_from_the_training_samples(monkeypatch, tmp_path, capsys):
    rows = [row for row in make_rows(10, "") if "validation" not in row]
    datasets = {"mood": write_table(tmp_path, "mood", rows), "age": write_table(tmp_path, "age", rows)}
    for dataset in datasets.values():
        del dataset["columns"]["audit"]
    check(monkeypatch, tmp_path, datasets=datasets)
    assert "mixture.components" not in capsys.readouterr().out
    datasets["age"]["validation"] = 0.6
    check(monkeypatch, tmp_path, datasets=datasets)
    printed = capsys.readouterr().out
    assert "mixture.components: only 4 are used where samples of age without a label for 'mood' are so few" in printed
    assert "mixture.components: only 4 are used where samples with a label for 'age' are so few" in printed


def test_more_samples_than_a_dataset_has_are_said(monkeypatch, tmp_path):
    datasets = {name: write_table(tmp_path, name, make_rows(9, "")) for name in ("mood", "age")}
    datasets["age"]["samples"] = 10
    with pytest.raises(ValueError, match=r"^dataset age: .*age\.csv: `samples`: 10 samples cannot be drawn") as caught:
        check(monkeypatch, tmp_path, datasets=datasets)
    assert "\n" not in str(caught.value)


def test_methods_that_make_no_labels_are_counted_without_them(monkeypatch, tmp_path, capsys):
    check(monkeypatch, tmp_path, methods=[{"schedule": "mixed"}])
    printed = capsys.readouterr().out
    assert "features 0 B, weights and labels 0 B" in printed
    assert "images 13.5 MB" in printed


def test_label_transfer_that_never_begins_is_noted(monkeypatch, tmp_path, capsys):
    method = {"paper_name": "LEL-LTN", "schedule": "mixed", "label_transfer": {"warmup": 10}}
    check(monkeypatch, tmp_path, methods=[method])
    assert "LEL-LTN: label_transfer.warmup is 10 and training.epochs 10, so that no label" in capsys.readouterr().out
    check(monkeypatch, tmp_path, methods=[method | {"label_transfer": {"warmup": 9}}])
    assert "LEL-LTN" not in capsys.readouterr().out


def test_methods_without_mixtures_need_no_samples_for_them(monkeypatch, tmp_path):
    datasets = {
        "mood": write_table(tmp_path, "mood", make_rows(9, "a")),
        "age": write_table(tmp_path, "age", make_rows(3, "a")),
    }
    del datasets["mood"]["columns"]["audit"]
    check(monkeypatch, tmp_path, methods=[{**MTL_SA, "selection": 0}, {"schedule": "mixed"}], datasets=datasets)


def test_a_dataset_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    datasets = {
        "mood": write_table(tmp_path, "mood", make_rows(9, "")),
        "age": write_table(tmp_path, "age", make_rows(9, "")),
    }
    (tmp_path / "age.csv").unlink()
    with pytest.raises(ValueError, match=r"^dataset age: .*age\.csv"):
        check(monkeypatch, tmp_path, datasets=datasets)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"backbone": "vgg_tiny", "pretrained": "VGG16_Weights.IMAGENET1K_V1"}, "no weights for vgg_tiny"),
        ({"backbone": "vgg_tiny", "head_features": 10**12}, "this run needs about .* set storage.keep_features"),
    ],
)
def test_networks_and_disks_that_will_not_do_are_said(monkeypatch, tmp_path, network, message):
    with pytest.raises(ValueError, match=message):
        check(monkeypatch, tmp_path, network=network)
    assert not (tmp_path / "results").exists()


def test_another_backbone_is_measured_and_its_name_checked(monkeypatch, tmp_path, capsys):
    check(monkeypatch, tmp_path, network={"backbone": "resnet18"})
    # 11.3 million parameters, ten epochs and the joint training: 12 bytes each, 4 more for the average where
    # an optimizer's state stays, and the final network's 4.
    assert "checkpoints 950 MB" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"network\.backbone: unknown 'resnet_18'; did you mean 'resnet18'"):
        check(monkeypatch, tmp_path, network={"backbone": "resnet_18"})


def test_weights_are_fetched_before_the_first_job(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    network = {"backbone": "resnet18", "pretrained": "ResNet18_Weights.IMAGENET1K_V1"}
    with pytest.raises(ValueError, match=r"cannot download 'ResNet18_Weights\.IMAGENET1K_V1' .* fetch https://"):
        check(monkeypatch, tmp_path, network=network)


def test_images_elsewhere_are_refused_unless_the_settings_permit_it(monkeypatch, tmp_path):
    rows = [row.replace("x.png", "../x.png") for row in make_rows(9, "")]
    datasets = {name: write_table(tmp_path, name, rows) for name in ("mood", "age")}
    for dataset in datasets.values():
        del dataset["columns"]["audit"]
    with pytest.raises(ValueError, match=r"^dataset mood: .*mood\.csv: row 11: '\.\./x\.png' lies outside"):
        check(monkeypatch, tmp_path, datasets=datasets)
    check(monkeypatch, tmp_path, datasets=datasets, images={"outside_data_root": "allow"})


def test_bad_entries_of_published_lists_are_refused_unless_they_are_skipped(monkeypatch, tmp_path):
    (tmp_path / "expw/label").mkdir(parents=True)
    (tmp_path / "expw/image/origin").mkdir(parents=True)
    lines = [f"{number}.jpg 0 5 10 20 25 42.5 {number % 2}" for number in range(20)]
    for number in range(20):
        (tmp_path / f"expw/image/origin/{number}.jpg").touch()
    (tmp_path / "expw/label/label.lst").write_text("\n".join([*lines, "0.jpg 1 5 10 5 25 42.5 0"]))
    datasets = {"mood": {"source": "expw", "task": "mood", "path": "expw"}, "age": write_table(tmp_path, "age", [])}
    (tmp_path / "age.csv").write_text("\n".join(["path,label,split,other", *make_rows(9, "")]))
    del datasets["age"]["columns"]["audit"]
    with pytest.raises(
        ValueError, match=r"^dataset mood: .*label\.lst, line 21: the box .* is empty; get the file again, "
    ):
        check(monkeypatch, tmp_path, datasets=datasets)
    check(monkeypatch, tmp_path, datasets=datasets, images={"on_error": "skip"})


def share_task(folder, second, **shared):
    """Two tables that are both labelled for the mood, the second with other rows, and what they share."""
    datasets = {name: write_table(folder, name, rows) for name, rows in (("one", make_rows(9, "")), ("two", second))}
    for dataset in datasets.values():
        del dataset["columns"]["audit"], dataset["columns"]["label"], dataset["task"]
        dataset["labels"] = {"mood": "label"}
    return {"datasets": datasets, "tasks": {"mood": shared} if shared else {}}


def test_classes_that_are_missing_somewhere_or_everywhere_are_said(monkeypatch, tmp_path, capsys):
    second = [row.replace(",b,", ",a,") for row in make_rows(9, "")]
    check(monkeypatch, tmp_path, **share_task(tmp_path, second, classes=["a", "b", "c"]))
    printed = capsys.readouterr().out
    assert "task mood: no sample has the label 'c'; nothing but pseudo labels could say it" in printed
    assert "dataset two: has no training sample of 'b' for 'mood'; others have" in printed
    assert "every sample has a label for every task: nothing is weighed" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda row: row.replace(",a,", ",A,"),
            "task mood, in one and two: 'A', 'a' differ in case or blanks",
        ),
        (
            lambda row: row.replace(",b,test", ",z,test"),
            "task mood: no training sample has the label 'z', but some of test",
        ),
        (
            lambda row: row.replace(",a,train", ",,train").replace(",b,train", ",,train"),
            "dataset two: no training sample",
        ),
    ],
)
def test_labels_of_several_datasets_that_do_not_fit_are_refused(monkeypatch, tmp_path, change, message):
    second = [change(row) for row in make_rows(9, "")]
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        check(monkeypatch, tmp_path, **share_task(tmp_path, second))
    assert "\n" not in str(caught.value)


def test_a_task_that_no_test_sample_knows_is_refused(monkeypatch, tmp_path):
    changes = share_task(
        tmp_path, [row.replace(",a,test", ",,test").replace(",b,test", ",,test") for row in make_rows(9, "")]
    )
    del changes["datasets"]["one"]
    with pytest.raises(ValueError, match=r"^task mood: no sample of a test split has a label; it could"):
        check(monkeypatch, tmp_path, **changes)

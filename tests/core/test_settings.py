import copy
from pathlib import Path

import pytest
import yaml

from stages.core.settings import SettingsError, check_experiment, check_settings

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
METHODS_SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/methods.schema.yaml").read_text(encoding="utf-8"))
METHODS = yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8"))
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def check(settings):
    filled = check_settings(settings, SCHEMA, "config.yaml")
    check_experiment(filled, METHODS, "config.yaml")
    return filled


def change(path, value):
    settings = copy.deepcopy(DEFAULT)
    place = settings
    *folders, key = path.split(".")
    for folder in folders:
        place = place[folder]
    place[key] = value
    return settings


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "experiments").glob("*.yaml"))], ids=lambda p: p.name
)
def test_every_experiment_is_valid_and_complete(path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    filled = check(settings)
    left_out = {key for key in filled if key not in settings}
    assert not left_out, f"an experiment states every key; {path.name} leaves out {left_out}"
    for section in ("images", "network", "training", "features", "density", "mixture", "transport"):
        assert filled[section] == settings[section]


def test_every_key_is_described():
    def walk(schema, path):
        for key, definition in schema.get("properties", {}).items():
            if definition.get("type") == "object":
                walk(definition, f"{path}.{key}")
            else:
                assert "description" in definition or "$ref" in definition, f"{path}.{key}"

    walk(SCHEMA, "")


def test_methods_follow_their_schema():
    assert check_settings(METHODS, METHODS_SCHEMA, "methods.yaml") == METHODS
    assert METHODS["mtl_wf"]["selection"] == 0
    assert METHODS["mtl_wf"]["temperature"] == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.epoch", 3, "training.epoch: unknown key; did you mean 'epochs'?"),
        ("trainig", {}, "trainig: unknown key; did you mean 'training'?"),
        ("datasets.snapshots.stile", "x", "datasets.snapshots.stile: unknown key; did you mean 'style'?"),
        ("density.cutoff_quantile", 1.5, "density.cutoff_quantile: 1.5 is too large; the most is 1"),
        ("density.cutoff_quantile", 0, "density.cutoff_quantile: 0 is too small; it must be above 0"),
        ("training.epochs", 0, "training.epochs: 0 is too small; the least is 1"),
        ("training.epochs", "ten", "training.epochs: 'ten' is not of type integer"),
        ("features.normalize", "l1", "features.normalize: 'l1' is not allowed; did you mean 'l2'?"),
        (
            "network.backbone",
            "vggtiny",
            "network.backbone: 'vggtiny' is not allowed; did you mean 'vgg_tiny'?",
        ),
        ("datasets.snapshots.source", "imagefolder", "did you mean 'image_folder'?"),
        ("methods", ["mtl_sb"], "methods: unknown method 'mtl_sb'; did you mean 'mtl_sa'?"),
        ("methods", [], "methods: is too short"),
        ("training.epochs", 10.0, "training.epochs: 10.0 is not of type integer"),
        ("training.learning_rate", float("nan"), "training.learning_rate: nan is not of type number"),
        ("training.learning_rate", "1e-4", "write 0.0001, not 1e-4"),
        ("transport.decay", float("inf"), "transport.decay: inf is not of type number"),
        ("datasets.snapshots", {"task": "a", "style": "x"}, "datasets.snapshots.source: is missing"),
        (
            "datasets.snapshots",
            {"task": "a", "source": "image_folder", "path": "x", "split": "folder"},
            "datasets.snapshots.split: 'folder' is not allowed; did you mean 'folders'?",
        ),
        (
            "datasets.snapshots",
            {"task": "a", "source": "image_folder", "path": "x", "split": {"tset": 0.2}},
            "datasets.snapshots.split.tset: unknown key; did you mean 'test'?",
        ),
        (
            "datasets.snapshots",
            {"task": "features", "source": "image_folder", "path": "x", "split": "folders"},
            "a task cannot be called 'features'",
        ),
        ("experiment", "a/b", "experiment: 'a/b' has characters"),
        ("images.mean", [0.5], "images.mean: has 1 values, but images.channels is 3"),
        ("datasets.portraits.task", "expression", "two are labelled for the task 'expression'"),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_to_mend_it(path, value, message):
    with pytest.raises(SettingsError) as error:
        check(change(path, value))
    assert str(error.value).startswith("config.yaml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_one_dataset_is_not_enough():
    settings = copy.deepcopy(DEFAULT)
    del settings["datasets"]["portraits"]
    with pytest.raises(SettingsError, match="datasets: 1 given, but at least 2 are needed"):
        check(settings)


def test_a_missing_key_is_named():
    settings = copy.deepcopy(DEFAULT)
    del settings["datasets"]["snapshots"]["task"]
    with pytest.raises(SettingsError, match=r"datasets\.snapshots\.task: is missing"):
        check(settings)


def test_defaults_are_those_of_the_paper():
    filled = check({"experiment": "x", "datasets": DEFAULT["datasets"]})
    assert filled["network"]["backbone"] == "vgg16"
    assert filled["training"]["batch_size"] == 32
    assert filled["training"]["learning_rate"] == 1e-4
    assert filled["density"]["cutoff_quantile"] == 0.6
    assert filled["transport"] == {"ground_distance": "sqeuclidean", "decay": 0.1}
    assert filled["labels"]["temperature"] == 2


def test_a_key_that_is_no_text_is_named():
    with pytest.raises(SettingsError, match=r"config\.yaml: datasets: the key 2013 is not text; write it in quotes"):
        check(change("datasets", {2013: DEFAULT["datasets"]["snapshots"], "b": DEFAULT["datasets"]["portraits"]}))


def test_a_misspelt_criterion_is_named():
    row = {"paper_name": "x", "schedule": "alternating", "selection": ["confidance"]}
    with pytest.raises(SettingsError, match=r"x\.selection\.0: 'confidance' is not allowed; did you mean 'confidence'"):
        check_settings({"x": row}, METHODS_SCHEMA, "methods.yaml")

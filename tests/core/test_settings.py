import copy
from pathlib import Path

import pytest
import yaml

from stages.core.schedule import SCHEDULES
from stages.core.selection import INTERPOLATIONS
from stages.core.settings import SettingsError, check_experiment, check_methods, check_settings, check_unique_keys
from stages.materialize_labels import DISTANCES
from stages.sources.base import SPLITS

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
METHODS_SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/methods.schema.yaml").read_text(encoding="utf-8"))
METHODS = yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8"))
FOLDER = {"task": "a", "source": "image_folder", "path": "x", "split": "folders"}
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
    sections = ("images", "network", "training", "features", "density", "mixture", "transport", "labels", "comparison")
    for section in sections:
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
    check_methods(METHODS, "methods.yaml")
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
        ("images.fit", "strech", "images.fit: 'strech' is not allowed; did you mean 'stretch'?"),
        ("datasets.snapshots.source", "imagefolder", "did you mean 'image_folder'?"),
        ("methods", ["mtl_sb"], "methods: unknown method 'mtl_sb'; did you mean 'mtl_sa'?"),
        ("methods", [], "methods: is too short"),
        ("comparison.methods", [], "comparison.methods: is too short"),
        (
            "comparison.methods",
            ["mtl_sa", "all_in_on"],
            "comparison.methods: unknown method 'all_in_on'; did you mean 'all_in_one'?",
        ),
        ("comparison.reference", "mtl_sb", "comparison.reference: unknown method 'mtl_sb'; did you mean 'mtl_sa'?"),
        (
            "comparison.methods",
            ["stl", "all_in_one"],
            "comparison.methods: lacks the reference 'mtl_sa'; add it or choose another comparison.reference",
        ),
        ("comparison.last_epochs", 0, "comparison.last_epochs: 0 is too small; the least is 1"),
        ("labels.interpolation", "treshold", "'treshold' is not allowed; did you mean 'threshold'?"),
        ("labels.quantile", 1.5, "labels.quantile: 1.5 is too large; the most is 1"),
        ("datasets.snapshots.samples", {"train": 9, "test": 5}, "datasets.snapshots.samples.validation: is missing"),
        ("datasets.snapshots.part", [0, 0.5], "datasets.snapshots.part: unknown key"),
        ("datasets.snapshots", {**FOLDER, "part": [0.5]}, "datasets.snapshots.part: is too short; at least 2 needed"),
        ("datasets.snapshots", {**FOLDER, "part": [0, 1.5]}, "datasets.snapshots.part.1: 1.5 is too large"),
        ("datasets.snapshots", {**FOLDER, "validation": 0}, "datasets.snapshots.validation: 0 is too small"),
        ("datasets.snapshots", {**FOLDER, "samples": 10.5}, "datasets.snapshots.samples: 10.5 is not of type integer"),
        ("datasets.snapshots", {**FOLDER, "sample": 10}, "snapshots.sample: unknown key; did you mean 'samples'?"),
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
    assert filled["labels"] == {"temperature": 2, "interpolation": "soft", "quantile": 0.5}
    assert filled["comparison"] == {
        "methods": None,
        "seeds": [0, 1, 2, 3, 4],
        "last_epochs": 4,
        "reference": "mtl_sa",
    }


def test_a_key_that_is_no_text_is_named():
    with pytest.raises(SettingsError, match=r"config\.yaml: datasets: the key 2013 is not text; write it in quotes"):
        check(change("datasets", {2013: DEFAULT["datasets"]["snapshots"], "b": DEFAULT["datasets"]["portraits"]}))


def test_a_misspelt_criterion_is_named():
    row = {"paper_name": "x", "schedule": "alternating", "selection": ["confidance"]}
    with pytest.raises(SettingsError, match=r"x\.selection\.0: 'confidance' is not allowed; did you mean 'confidence'"):
        check_settings({"x": row}, METHODS_SCHEMA, "methods.yaml")


@pytest.mark.parametrize("key", ["part", "validation", "samples", "seed"])
@pytest.mark.parametrize(
    "dataset",
    [FOLDER, {**FOLDER, "source": "table", "columns": {"path": "p", "label": "l", "split": "s"}, "split": "column"}],
    ids=["image_folder", "table"],
)
def test_datasets_of_files_may_be_thinned_out(dataset, key):
    value = {"part": [0, 0.3], "validation": 0.2, "samples": 100, "seed": 7}[key]
    filled = check(change("datasets.snapshots", {**dataset, key: value}))
    assert filled["datasets"]["snapshots"][key] == value


def test_a_comparison_of_its_own_methods_is_valid():
    settings = change("comparison.methods", ["stl", "all_in_one"])
    settings["comparison"]["reference"] = "stl"
    assert check(settings)["comparison"]["methods"] == ["stl", "all_in_one"]


def test_the_schemas_know_what_the_code_knows():
    row = METHODS_SCHEMA["additionalProperties"]["properties"]
    assert row["schedule"]["enum"] == list(SCHEDULES)
    assert row["interpolation"]["enum"] == list(INTERPOLATIONS)
    assert sorted(row["distance"]["enum"]) == sorted(DISTANCES)
    assert SCHEMA["properties"]["labels"]["properties"]["interpolation"]["enum"] == list(INTERPOLATIONS)
    faces = next(one["then"] for one in SCHEMA["$defs"]["dataset"]["allOf"] if "samples" in one["then"]["properties"])
    assert faces["properties"]["samples"]["required"] == list(SPLITS)


ALTERNATING = {"paper_name": "x", "schedule": "alternating", "selection": 1}
MIXED = {"paper_name": "x", "schedule": "mixed"}
SINGLE = {"paper_name": "x", "schedule": "single"}
NO_USE = "a {} method has no use for it; remove it or set schedule to alternating"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"paper_name": "x", "schedule": "alternating"},
            "x.selection: is missing; an alternating method needs label vectors",
        ),
        ({**MIXED, "selection": 0}, "x.selection: " + NO_USE.format("mixed")),
        ({**SINGLE, "selection": ["confidence"]}, "x.selection: " + NO_USE.format("single")),
        ({**MIXED, "distance": "mmd"}, "x.distance: " + NO_USE.format("mixed")),
        ({**MIXED, "temperature": 1}, "x.temperature: " + NO_USE.format("mixed")),
        ({**SINGLE, "interpolation": "threshold"}, "x.interpolation: " + NO_USE.format("single")),
        ({**SINGLE, "quantile": 0}, "x.quantile: " + NO_USE.format("single")),
        ({**MIXED, "refinement": {"strength": 1, "neighbors": 5}}, "x.refinement: " + NO_USE.format("mixed")),
        (
            {**ALTERNATING, "label_transfer": {"warmup": 2}},
            "x.label_transfer: needs the schedule mixed, not alternating",
        ),
        ({**SINGLE, "label_transfer": {"warmup": 2}}, "x.label_transfer: needs the schedule mixed, not single"),
        (
            {**SINGLE, "regularization": {"l21": 0.1}},
            "x.regularization: joins tasks, which the schedule single keeps apart",
        ),
    ],
)
def test_a_setting_that_a_schedule_has_no_use_for_is_named(row, message):
    methods = check_settings({"y": ALTERNATING, "x": row}, METHODS_SCHEMA, "methods.yaml")
    with pytest.raises(SettingsError) as error:
        check_methods(methods, "methods.yaml")
    assert str(error.value) == f"methods.yaml: {message}"


@pytest.mark.parametrize(
    "row",
    [
        {
            **ALTERNATING,
            "selection": ["distribution"],
            "distance": "mean",
            "temperature": 1,
            "interpolation": "threshold",
            "quantile": 0.2,
        },
        {**ALTERNATING, "refinement": {"strength": 0, "neighbors": 1}, "regularization": {"l21": 0.1}},
        {**MIXED, "label_transfer": {"warmup": 1}, "regularization": {"laplacian": 0.1, "neighbors": 3}},
        SINGLE,
    ],
)
def test_a_schedule_keeps_the_settings_that_it_uses(row):
    check_methods(check_settings({"x": row}, METHODS_SCHEMA, "methods.yaml"), "methods.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "alternate"}, "x.schedule: 'alternate' is not allowed; did you mean 'alternating'?"),
        ({"distance": "mdm"}, "x.distance: 'mdm' is not allowed"),
        ({"regularization": {"laplacain": 1}}, "x.regularization.laplacain: unknown key; did you mean 'laplacian'?"),
        ({"refinement": {"strength": 1}}, "x.refinement.neighbors: is missing"),
        ({"label_transfer": {"warmup": 0}}, "x.label_transfer.warmup: 0 is too small; the least is 1"),
    ],
)
def test_a_wrong_setting_of_a_method_is_named(change, message):
    with pytest.raises(SettingsError) as error:
        check_settings({"x": {**ALTERNATING, **change}}, METHODS_SCHEMA, "methods.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["initial", "initial_separate"])
def test_a_method_cannot_have_the_name_of_a_folder(name):
    with pytest.raises(SettingsError, match=f"methods.yaml: a method cannot be called '{name}'"):
        check_methods({name: MIXED}, "methods.yaml")


def test_parts_drawn_by_different_seeds_are_refused():
    datasets = copy.deepcopy(DEFAULT["datasets"])
    for number, dataset in enumerate(datasets.values()):
        dataset.clear()
        dataset.update(
            task=f"task{number}",
            source="table",
            path="labels.csv",
            columns={"path": "path", "label": f"label{number}", "split": "split"},
            split="column",
            part=[number / 2, number / 2 + 0.5],
            seed=number,
        )
    settings = check_settings({**DEFAULT, "datasets": datasets}, SCHEMA, "config.yaml")
    with pytest.raises(SettingsError, match=r"those with a `part` have different seeds, \[0, 1\]"):
        check_experiment(settings, METHODS, "config.yaml")
    for dataset in datasets.values():
        dataset["seed"] = 3
    check_experiment(check_settings({**DEFAULT, "datasets": datasets}, SCHEMA, "config.yaml"), METHODS, "config.yaml")


def test_a_key_that_stands_twice_is_refused_with_its_line():
    check_unique_keys("a: {x: 1}\nb: {x: 2}\n", "mine.yaml")
    with pytest.raises(SettingsError, match=r"^mine\.yaml: line 3: the key 'x' stands twice in its section; keep one$"):
        check_unique_keys("a:\n  y: 1\n  x: 1\n  x: 2\n", "mine.yaml")

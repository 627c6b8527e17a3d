import copy
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args

import pytest
import yaml
from pydantic import BaseModel

from stages.core.reliability import BALANCES, ESTIMATES
from stages.core.selection import ALIGNMENTS, CRITERIA, DECAY_SCALES, INTERPOLATIONS, NORMALIZATIONS
from stages.core.training import SCHEDULES
from stages.data.sources.base import SPLITS
from stages.data.sources.synthetic_faces import FaceSamples
from stages.epoch.materialize_labels import DISTANCES
from stages.settings.checks import check_experiment, check_methods, load_experiment, parse_yaml
from stages.settings.errors import SettingsError
from stages.settings.experiment import Experiment, Labels
from stages.settings.methods import Criteria, Method

ROOT = Path(__file__).parents[2]
METHODS = yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8"))
FOLDER = {"task": "a", "source": "image_folder", "path": "x", "split": "folders"}
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def check(settings):
    return check_experiment(settings, METHODS, "config.yaml")


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


def list_models(model):
    """A model and all that its fields lead to."""
    pending, found = [model], []
    while pending:
        one = pending.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            found.append(one)
            pending += [field.annotation for field in one.model_fields.values()]
        else:
            pending += get_args(one)
    return found


@pytest.mark.parametrize(
    "model", dict.fromkeys([*list_models(Experiment), *list_models(Method)]), ids=lambda model: model.__name__
)
def test_every_key_is_described(model):
    assert model.__doc__
    for key, field in model.model_fields.items():
        assert field.description.endswith("."), key


def test_the_methods_of_the_paper_are_as_they_should_be():
    assert check_methods(METHODS, "methods.yaml") == METHODS
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
            "comparison.methods: lacks the reference 'mtl_sa_plus'; add it or choose another comparison.reference",
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
        (
            "datasets.snapshots",
            {"source": "image_folder", "tsk": "a", "path": "x", "split": "folders"},
            "datasets.snapshots.tsk: unknown key; did you mean 'task'? (known: 'task', 'source', 'known', ",
        ),
        ("datasets.snapshots", {**FOLDER, "split": 0.2}, "datasets.snapshots.split: '0.2' is not allowed"),
        ("datasets.snapshots", {**FOLDER, "part": None}, "datasets.snapshots.part: None is not of type array"),
        ("datasets.snapshots", {**FOLDER, "classes": ["a", "a"]}, "datasets.snapshots.classes: names 'a' twice"),
        ("datasets.snapshots", 3, "datasets.snapshots: 3 is not of type object"),
        ("datasets", [], "datasets: [] is not of type object"),
        ("images.mean", "none", "images.mean: 'none' is not of type array or null"),
        ("images.mean", ["a"], "images.mean.0: 'a' is not of type number; write"),
        ("comparison.reference", "a\n", r"comparison.reference: unknown method 'a\n' (known"),
        ("images", None, "images: None is not of type object"),
        ("images.channels", 2, "images.channels: '2' is not allowed (known: '1', '3')"),
        ("images.channels", True, "images.channels: 'True' is not allowed (known: '1', '3')"),
        ("images.channels", 3.0, "images.channels: '3.0' is not allowed; did you mean '3'?"),
        ("training.epochs", True, "training.epochs: True is not of type integer"),
        ("labels.temperature", True, "labels.temperature: True is not of type number"),
        ("labels.temperature", "2", "labels.temperature: '2' is not of type number"),
        ("compute.warm_start", 1, "compute.warm_start: 1 is not of type boolean"),
        ("seeds", [1, 2, 1], "seeds: names 1 twice; keep one"),
        ("seeds", (1, 2), "seeds: (1, 2) is not of type array"),
        ("storage.keep_optimizers", 1, "storage.keep_optimizers: 1 is too small; the least is 2"),
        ("storage.keep_optimizers", "al", "storage.keep_optimizers: 'al' is not allowed; did you mean 'all'?"),
        ("storage.keep_networks", {"every": 0}, "storage.keep_networks.every: 0 is too small; the least is 1"),
        ("storage.keep_networks", {"evry": 1}, "storage.keep_networks.evry: unknown key; did you mean 'every'?"),
        ("storage.image_cache", "", "storage.image_cache: is too short"),
        ("experiment", "a/b", "experiment: 'a/b' has characters"),
        ("experiment", "ab\n", r"experiment: 'ab\n' has characters"),
        ("datasets.portraits.task", "pose\n", r"datasets.portraits.task: 'pose\n' is not allowed"),
        ("datasets.snapshots", {**FOLDER, "task": "a\n"}, r"datasets.snapshots.task: 'a\n' has characters"),
        ("datasets.no\n", FOLDER, r"datasets.'no\n': 'no\n' has characters"),
        ("datasets.No", FOLDER, "datasets.No: 'No' has characters that file and column names should not have"),
        ("network.backbone", "vgg16\n", r"network.backbone: 'vgg16\n' has characters"),
        ("images.mean", [0.5], "images.mean: has 1 values, but images.channels is 3"),
        ("datasets.portraits.labels", {}, "datasets.portraits: has both `task` and `labels`"),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_to_mend_it(path, value, message):
    with pytest.raises(SettingsError) as error:
        check(change(path, value))
    assert str(error.value).startswith("config.yaml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_some_dataset_is_needed_and_one_is_enough():
    settings = copy.deepcopy(DEFAULT)
    del settings["datasets"]["portraits"]
    assert list(check(settings)["datasets"]) == ["snapshots"]
    with pytest.raises(SettingsError, match="datasets: 0 given, but at least 1 is needed"):
        check(change("datasets", {}))


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
    assert filled["labels"] == {"temperature": 2, "interpolation": "soft", "quantile": 0.5, "teacher": "averaged"}
    assert filled["comparison"] == {
        "methods": None,
        "seeds": [0, 1, 2, 3, 4],
        "last_epochs": 4,
        "reference": "mtl_sa",
    }


def test_a_key_that_is_no_text_is_named():
    with pytest.raises(SettingsError, match=r"config\.yaml: datasets: the key 2013 is not text; write it in quotes"):
        check(change("datasets", {2013: DEFAULT["datasets"]["snapshots"], "b": DEFAULT["datasets"]["portraits"]}))


def test_the_first_error_says_how_many_more_there_are():
    settings = change("training.epochs", 0)
    settings["training"]["epoch"] = 3
    settings["trainig"] = {}
    settings["images"] = {"hight": 3, "width": "3"}
    with pytest.raises(SettingsError, match=r"^config\.yaml: images\.hight: unknown key.* \(and 4 more\)$"):
        check(settings)


def test_integers_stay_integers_and_keys_that_are_left_out_stay_out():
    filled = check(change("transport.decay", 1))
    assert repr(filled["transport"]["decay"]) == "1"
    assert repr(filled["labels"]["temperature"]) == "2"
    assert filled["datasets"]["snapshots"] == DEFAULT["datasets"]["snapshots"]
    assert check(change("datasets.snapshots", FOLDER))["datasets"]["snapshots"] == FOLDER
    ratio = {**FOLDER, "split": {"test": 0.2}}
    assert check(change("datasets.snapshots", ratio))["datasets"]["snapshots"]["split"] == {"test": 0.2, "seed": 0}


def test_datasets_keep_their_order():
    settings = {**DEFAULT, "datasets": dict(reversed(DEFAULT["datasets"].items()))}
    assert list(check(settings)["datasets"]) == ["portraits", "snapshots"]


def test_a_misspelt_criterion_is_named():
    row = {"paper_name": "x", "schedule": "alternating", "selection": ["confidance"]}
    with pytest.raises(SettingsError, match=r"x\.selection\.0: 'confidance' is not allowed; did you mean 'confidence'"):
        check_methods({"x": row}, "methods.yaml")


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


def test_the_models_know_what_the_code_knows():
    row = Method.model_fields
    assert get_args(row["schedule"].annotation) == SCHEDULES
    assert get_args(row["interpolation"].annotation) == INTERPOLATIONS
    assert sorted(get_args(row["distance"].annotation)) == sorted(DISTANCES)
    assert get_args(row["decay_scale"].annotation) == DECAY_SCALES
    assert get_args(row["alignment"].annotation) == ALIGNMENTS
    assert get_args(row["normalization"].annotation) == NORMALIZATIONS
    assert get_args(row["reliability"].annotation) == ESTIMATES
    assert get_args(row["balance"].annotation) == BALANCES
    assert get_args(Labels.model_fields["interpolation"].annotation) == INTERPOLATIONS
    assert get_args(get_args(Criteria)[0]) == (Literal[CRITERIA],)
    assert tuple(FaceSamples.model_fields) == SPLITS


ALTERNATING = {"paper_name": "x", "schedule": "alternating", "selection": 1}
MIXED = {"paper_name": "x", "schedule": "mixed"}
SINGLE = {"paper_name": "x", "schedule": "single"}
NO_USE = "a single method has no use for it; remove it or set schedule to alternating or mixed"
NO_SELECTION = "has no use without a selection; remove it or add one"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"paper_name": "x", "schedule": "alternating"},
            "x.selection: is missing; an alternating method needs label vectors",
        ),
        ({**SINGLE, "selection": ["confidence"]}, "x.selection: " + NO_USE),
        ({**SINGLE, "temperature": 1}, "x.temperature: " + NO_USE),
        ({**SINGLE, "interpolation": "threshold"}, "x.interpolation: " + NO_USE),
        ({**SINGLE, "quantile": 0}, "x.quantile: " + NO_USE),
        ({**MIXED, "distance": "mmd"}, "x.distance: " + NO_SELECTION),
        ({**MIXED, "temperature": 1}, "x.temperature: " + NO_SELECTION),
        ({**MIXED, "alignment": "once"}, "x.alignment: " + NO_SELECTION),
        ({**MIXED, "strength": 0.5}, "x.strength: " + NO_SELECTION),
        ({**SINGLE, "student_temperature": 2}, "x.student_temperature: " + NO_USE),
        ({**MIXED, "normalization": "separate"}, "x.normalization: " + NO_SELECTION),
        ({**MIXED, "reliability": "validation"}, "x.reliability: " + NO_SELECTION),
        ({**SINGLE, "balance": "rows"}, "x.balance: " + NO_USE),
        ({**MIXED, "sharpness": 2}, "x.sharpness: " + NO_SELECTION),
        ({**SINGLE, "sharpness": 2}, "x.sharpness: " + NO_USE),
        (
            {**MIXED, "selection": ["density"], "decay_scale": "median"},
            "x.decay_scale: has no use without the criterion distribution",
        ),
        ({**ALTERNATING, "decay": 2}, "x.decay: has no use without the criterion distribution"),
        ({**ALTERNATING, "sharpness": 2}, "x.sharpness: has no use with a constant weight"),
        ({**MIXED, "refinement": {"strength": 1, "neighbors": 5}}, "x.refinement: " + NO_SELECTION),
        (
            {**MIXED, "selection": ["density"], "distance": "mmd"},
            "x.distance: has no use without the criterion distribution",
        ),
        (
            {**MIXED, "selection": 1, "label_transfer": {"warmup": 2}},
            "x.label_transfer: gives the labels that selection would make; remove one of them",
        ),
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
    with pytest.raises(SettingsError) as error:
        check_methods({"y": ALTERNATING, "x": row}, "methods.yaml")
    assert str(error.value) == f"methods.yaml: {message}"


@pytest.mark.parametrize(
    "row",
    [
        {
            **ALTERNATING,
            "selection": ["distribution"],
            "distance": "mean",
            "decay": 1,
            "decay_scale": "median",
            "alignment": "full",
            "sharpness": 2,
            "temperature": 1,
            "interpolation": "threshold",
            "quantile": 0.2,
        },
        {**ALTERNATING, "refinement": {"strength": 0, "neighbors": 1}, "regularization": {"l21": 0.1}},
        {**ALTERNATING, "strength": {"value": 0.5, "ramp": 3}, "student_temperature": 2},
        {**MIXED, "selection": 0, "strength": 0},
        {**MIXED, "selection": 0.5, "reliability": "transport", "balance": "rows", "alignment": "once"},
        {**MIXED, "selection": 0, "normalization": "separate"},
        {**MIXED, "label_transfer": {"warmup": 1}, "regularization": {"laplacian": 0.1, "neighbors": 3}},
        {
            **MIXED,
            "selection": ["confidence", "distribution"],
            "distance": "mmd",
            "temperature": 1,
            "interpolation": "threshold",
            "quantile": 0.2,
            "refinement": {"strength": 0, "neighbors": 1},
        },
        SINGLE,
    ],
)
def test_a_schedule_keeps_the_settings_that_it_uses(row):
    assert check_methods({"x": row}, "methods.yaml") == {"x": row}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "alternate"}, "x.schedule: 'alternate' is not allowed; did you mean 'alternating'?"),
        ({"distance": "mdm"}, "x.distance: 'mdm' is not allowed"),
        ({"regularization": {"laplacain": 1}}, "x.regularization.laplacain: unknown key; did you mean 'laplacian'?"),
        ({"refinement": {"strength": 1}}, "x.refinement.neighbors: is missing"),
        ({"strength": -1}, "x.strength: -1 is too small; the least is 0"),
        ({"strength": {"value": 1, "ramp": 0}}, "x.strength.ramp: 0 is too small; the least is 1"),
        ({"strength": {"value": 1, "rmap": 2}}, "x.strength.rmap: unknown key; did you mean 'ramp'?"),
        ({"label_transfer": {"warmup": 0}}, "x.label_transfer.warmup: 0 is too small; the least is 1"),
    ],
)
def test_a_wrong_setting_of_a_method_is_named(change, message):
    with pytest.raises(SettingsError) as error:
        check_methods({"x": {**ALTERNATING, **change}}, "methods.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["Mine", "my method", "a/b", "a-b", "a\n", ""])
def test_a_method_cannot_have_a_name_that_folders_and_shells_mistake(name):
    with pytest.raises(SettingsError, match=r"methods\.yaml: .*has characters") as error:
        check_methods({name: MIXED}, "methods.yaml")
    assert "\n" not in str(error.value)


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
    with pytest.raises(SettingsError, match=r"those with a `part` have different seeds, \[0, 1\]"):
        check({**DEFAULT, "datasets": datasets})
    for dataset in datasets.values():
        dataset["seed"] = 3
    check({**DEFAULT, "datasets": datasets})


def test_a_key_that_stands_twice_is_refused_with_its_line():
    assert parse_yaml("a: {x: 1}\nb: {x: 2}\n", "mine.yaml") == {"a": {"x": 1}, "b": {"x": 2}}
    with pytest.raises(SettingsError, match=r"^mine\.yaml: line 3: the key 'x' stands twice in its section; keep one$"):
        parse_yaml("a:\n  y: 1\n  x: 1\n  x: 2\n", "mine.yaml")


def test_an_experiment_is_loaded_with_the_methods(tmp_path):
    path = tmp_path / "mine.yaml"
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    assert load_experiment([path], DEFAULT, "mine.yaml") == (check(DEFAULT), METHODS)
    path.write_text(text + "storage: {}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"mine\.yaml: line \d+: the key 'storage' stands twice"):
        load_experiment([path], DEFAULT, "mine.yaml")


def test_what_is_no_yaml_is_said_in_one_line():
    with pytest.raises(SettingsError, match=r"^mine\.yaml: is no YAML: [^\n]*line 2"):
        parse_yaml("a: 1\n b: [\n", "mine.yaml")


def test_settings_are_checked_without_any_of_the_heavy_libraries():
    code = "import sys, stages.settings.checks, stages.settings.document; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"numpy", "PIL", "pyarrow", "torch", "jsonschema", "scipy", "sklearn", "snakemake"}
    assert "pydantic" in loaded.split()
    assert not heavy & {name.split(".")[0] for name in loaded.split()}


TABLE = {
    "source": "table",
    "path": "a.csv",
    "labels": {"age": "age", "sex": "gender"},
    "columns": {"path": "file"},
    "split": {"test": 0.2},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "age"}, "datasets.clinic: has both `task` and `labels`; `task` is short for one label: remove it"),
        ({"labels": None, "task": "age"}, "datasets.clinic.columns.label: is missing"),
        ({"labels": None}, "datasets.clinic.task: is missing; name what its labels say, or write `labels` by task"),
        ({"columns": {"path": "p", "label": "x"}}, "datasets.clinic.columns.label: has no use beside `labels`"),
        ({"classes": ["a", "b"]}, "datasets.clinic.classes: is for a dataset with one task; write it in tasks.TASK.cl"),
        ({"drop": ["a"]}, "datasets.clinic.drop: is for a dataset with one task; write it in tasks.TASK.drop"),
        ({"known": {"sx": 0.5}}, "datasets.clinic.known.sx: is no task that it has labels for; did you mean 'sex'?"),
        ({"known": {"sex": 1.0}}, "datasets.clinic.known.sex: 1.0 is too large"),
        ({"audit": {"sex": "gender"}}, "datasets.clinic.audit.sex: 'gender' is also what the task is trained on; hold"),
        ({"labels": {"features": "x"}}, "datasets.clinic: a task cannot be called 'features'; choose another name"),
        ({"labels": {}}, "datasets: none has labels; name at least one `task`"),
        ({"duplicates": "last"}, "datasets.clinic.duplicates: 'last' is not allowed"),
        ({"tasks": {"agee": {}}}, "tasks.agee: no dataset has labels for it; did you mean 'age'?"),
        ({"tasks": {"age": {"classes": ["a"]}}}, "tasks.age.classes: is too short"),
        ({"tasks": {"age": {"weight": 0}}}, "tasks.age.weight: 0 is too small; it must be above 0"),
    ],
)
def test_labels_that_contradict_each_other_are_named(changes, message):
    settings = copy.deepcopy(DEFAULT) | {"tasks": changes.get("tasks", {})}
    dataset = {key: value for key, value in (TABLE | changes).items() if value is not None and key != "tasks"}
    settings["datasets"] = {"clinic": dataset}
    with pytest.raises(SettingsError) as error:
        check(settings)
    assert str(error.value).startswith(f"config.yaml: {message}")
    assert "\n" not in str(error.value)


def test_class_lists_of_one_task_must_agree():
    settings = copy.deepcopy(DEFAULT)
    folders = {
        name: {**FOLDER, "task": "mood", "classes": names} for name, names in (("x", ["a", "b"]), ("y", ["b", "a"]))
    }
    settings["datasets"] = folders
    with pytest.raises(
        SettingsError, match=r"x and y list different `classes` for 'mood'; write one list in tasks\.mood"
    ):
        check(settings)
    del folders["y"]["classes"]
    settings["tasks"] = {"mood": {"classes": ["a", "b"]}}
    with pytest.raises(SettingsError, match=r"tasks\.mood\.classes: datasets\.x has `classes`, too; keep one"):
        check(settings)
    del folders["x"]["classes"]
    checked = check(settings)
    assert checked["datasets"]["x"]["tasks"] == {"mood": {"classes": ["a", "b"], "shared": True}}


def test_images_without_labels_need_no_split_and_may_have_none():
    settings = copy.deepcopy(DEFAULT)
    settings["datasets"]["web"] = {"source": "image_folder", "path": "web", "labels": {}}
    assert check(settings)["datasets"]["web"]["labels"] == {}
    settings["datasets"]["web"]["split"] = "folders"
    with pytest.raises(
        SettingsError, match=r"datasets\.web\.split: has no use without labels: all images are training"
    ):
        check(settings)
    settings["datasets"]["web"] = {"source": "image_folder", "path": "web", "labels": {"mood": "folder"}}
    with pytest.raises(SettingsError, match=r"datasets\.web\.split: is missing"):
        check(settings)

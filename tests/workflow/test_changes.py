"""What is redone after which change: exactly the jobs whose result depends on it."""

import json
import re
import shutil

import pytest
import torch
import torchvision
import yaml

from stages.storage.files import digest_file
from tests.workflow.conftest import TINY, Project, copy_project
from tests.workflow.test_pipeline import write_three_tasks

EPOCH_2 = {
    "extract_features": 2,
    "estimate_density": 1,
    "fit_mixture": 1,
    "weigh_distribution": 1,
    "materialize_labels": 1,
    "audit_weights": 1,
    "train_epoch": 1,
    "evaluate_network": 1,
}
"""What follows from another network of epoch 1, beside the table of all metrics."""
LAST = {"collect_metrics": 1, "all": 1}


def add(*plans):
    """How often each rule runs in all of some plans."""
    total = {}
    for plan in plans:
        for rule, n in plan.items():
            total[rule] = total.get(rule, 0) + n
    return total | {name: 1 for name in LAST if name in total}


EPOCHS = add(EPOCH_2, EPOCH_2, LAST)
TRAINING = add({"initialize_network": 1, "evaluate_network": 1}, EPOCHS)
ALL = add({"prepare_images": 2, "prepare_audit": 2}, TRAINING)


def from_labels(rule):
    """Both epochs from one of the steps before the labels on; epoch 2 whole, because of its network."""
    steps = ("estimate_density", "fit_mixture", "weigh_distribution", "materialize_labels")
    first = {
        "estimate_density": ("estimate_density", "materialize_labels"),
        "fit_mixture": ("fit_mixture", "weigh_distribution", "materialize_labels"),
        "weigh_distribution": ("weigh_distribution", "materialize_labels"),
        "materialize_labels": ("materialize_labels",),
    }[rule]
    assert set(first) <= set(steps)
    again = (*first, "audit_weights", "train_epoch", "evaluate_network")
    return add(dict.fromkeys(again, 1), EPOCH_2, LAST)


def edit(module, old, new):
    """Change code of a stage."""

    def change(project):
        path = project.folder / "stages" / module
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{module} no longer holds {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def set_keys(**changes):
    """Change settings."""
    return lambda project: project.write_config("tiny.yaml", **changes)


def comment_everywhere(project):
    for path in (project.folder / "stages").rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\n# a comment\n", encoding="utf-8")


def swap_datasets(project):
    datasets = dict(reversed(TINY["datasets"].items()))
    project.write_config("tiny.yaml", datasets=datasets)


def edit_methods(old, new):
    def change(project):
        path = project.folder / "workflow/methods.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def add_keys(*lines):
    """Give mtl_sa further keys."""
    name = "paper_name: MTL-SA\n"
    return edit_methods(name, name + "".join(f"  {line}\n" for line in lines))


def add_reader(project):
    sources = project.folder / "stages/data/sources"
    text = (sources / "table.py").read_text(encoding="utf-8")
    (sources / "another.py").write_text(text.replace('Literal["table"]', 'Literal["another"]'), encoding="utf-8")
    edit("data/sources/registry.py", '"table", ', '"table", "another", ')(project)


def nothing(project):
    """No change."""


CHANGES = {
    "nothing": (nothing, {}),
    "a comment in every module": (comment_everywhere, {}),
    "a docstring": (edit("core/density.py", '"""Local density', '"""The local density'), {}),
    "the message of an error": (edit("core/density.py", "must be above 0 and at most 1", "is wrong"), {}),
    "what a stage prints": (edit("epoch/estimate_density.py", 'f"density of', 'f"the density of'), {}),
    "the help of an option": (edit("epoch/fit_mixture.py", "C, Gaussian components", "Gaussian components"), {}),
    "the reader of another source": (edit("data/sources/peta.py", "def read(", "UNUSED = 1\n\n\ndef read("), {}),
    "a further reader": (add_reader, {}),
    "which settings the reader in use allows": (
        edit("data/sources/synthetic_faces.py", "train: int = Field(ge=2", "train: int = Field(ge=1"),
        {},
    ),
    "what the reader in use tells others": (
        edit("data/sources/synthetic_faces.py", "drawn by this project's code", "drawn in code"),
        {},
    ),
    "the wording of suggestions": (edit("core/suggestions.py", "MAX_LISTED = 10", "MAX_LISTED = 9"), {}),
    "the contract of a table that no job touches": (
        edit("storage/contracts.py", '"seconds_per_epoch", "float64"', '"seconds_per_epoch", "float32"'),
        {},
    ),
    "the check before the first job": (edit("tools/feasibility.py", "needed > free", "free < needed"), {}),
    "the contract of densities": (
        edit("storage/contracts.py", '_probability("density_weight", "w^d, rho', '_probability("density_weight", "rho'),
        from_labels("estimate_density"),
    ),
    "the code of densities": (
        edit("core/density.py", "\ndef estimate_local_density(", "\n_X = 1\n\n\ndef estimate_local_density("),
        {},
    ),
    "the code of the reader in use": (edit("data/sources/synthetic_faces.py", "0.18, 0.23", "0.19, 0.22"), ALL),
    "the drawing of faces": (edit("data/sources/faces.py", "flush / 2", "flush / 3"), ALL),
    "the code of transport": (
        edit("core/transport.py", "mixing_weights", "priors"),
        from_labels("weigh_distribution"),
    ),
    "the code of audits": (edit("core/audit.py", "N_FIFTHS = 5", "N_FIFTHS = 4"), {"audit_weights": 2, "all": 1}),
    "the code of the training loop": (
        edit("core/training.py", "BATCHES_PER_CHECK = 25", "BATCHES_PER_CHECK = 24"),
        TRAINING,
    ),
    "the order of the datasets": (swap_datasets, TRAINING),
    "where the data lies and how it is loaded": (set_keys(data_root="elsewhere", training__loader_workers=2), {}),
    "no warm start": (set_keys(compute__warm_start=False), {}),
    "what is kept on the way": (set_keys(storage__keep_optimizers="all", storage__keep_features=False), {}),
    "what is kept at the end": (set_keys(storage__keep_networks="last"), LAST),
    "which epoch is the final one": (set_keys(training__select="last"), LAST),
    "threads of a network": (set_keys(compute__threads=2), TRAINING),
    "how many processes train together": (set_keys(training__devices=2), TRAINING),
    "the decay": (set_keys(transport__decay=0.2), from_labels("weigh_distribution")),
    "the cutoff of densities": (set_keys(density__cutoff_quantile=0.5), from_labels("estimate_density")),
    "how large groups are estimated": (set_keys(density__mode="exact"), from_labels("estimate_density")),
    "the largest group that is exact": (set_keys(density__exact_up_to=1000), from_labels("estimate_density")),
    "the samples of larger groups": (set_keys(density__sample_size=500), from_labels("estimate_density")),
    "the tolerance of mixtures": (set_keys(mixture__tolerance=0.01), from_labels("fit_mixture")),
    "the temperature of labels": (set_keys(labels__temperature=3), from_labels("materialize_labels")),
    "a quantile that nothing uses": (set_keys(labels__quantile=0.9), {}),
    "the scale of features": (set_keys(features__normalize="none"), EPOCHS | {"evaluate_network": 2}),
    "the learning rate": (set_keys(training__learning_rate=0.002), TRAINING),
    "the weights of classes": (set_keys(training__class_weights="balanced"), TRAINING),
    "the smoothing of labels": (set_keys(training__label_smoothing=0.1), TRAINING),
    "the optimizer": (set_keys(training__optimizer="adamw"), TRAINING),
    "the decay of weights": (set_keys(training__weight_decay=0.1), TRAINING),
    "the momentum of another optimizer": (set_keys(training__momentum=0.5), {}),
    "the length of gradients": (set_keys(training__clip_norm=1), TRAINING),
    "the schedule of the learning rate": (set_keys(training__schedule="cosine"), TRAINING),
    "the warm-up of the learning rate": (set_keys(training__warmup=0.1), TRAINING),
    "values that change places": (
        set_keys(mixture__components=100, mixture__max_iterations=2),
        from_labels("fit_mixture"),
    ),
    "the average of the weights": (set_keys(training__average=0.9), TRAINING),
    "whose labels they would be if there were an average": (set_keys(labels__teacher="last"), {}),
    "what mixed batches draw": (set_keys(training__sampling="balanced"), TRAINING),
    "how long epochs are": (
        set_keys(training__steps="equal"),
        add({"train_epoch": 1, "evaluate_network": 1}, EPOCH_2, LAST),
    ),
    "augmentation": (set_keys(training__augmentation={"shift": 1}), TRAINING),
    "augmentation by torchvision": (set_keys(training__augmentation={"policy": "rand_augment"}), TRAINING),
    "strong augmentation of which the method makes no use": (
        set_keys(training__strong_augmentation={"erasing": 0.1}),
        {},
    ),
    "strong augmentation of a method": (
        edit_methods(
            "paper_name: MTL-SA\n  schedule: alternating\n",
            "paper_name: MTL-SA\n  schedule: alternating\n  augmentation: strong\n",
        ),
        add({"train_epoch": 1, "evaluate_network": 1}, EPOCH_2, LAST),
    ),
    "the size of images": (set_keys(images__height=20), ALL),
    "the seed of one dataset": (
        set_keys(datasets__snapshots__seed=7),
        ALL | {"prepare_images": 1, "prepare_audit": 1},
    ),
    "one epoch more": (
        set_keys(training__epochs=3),
        add({**EPOCH_2, "extract_features": 2}, LAST),
    ),
    "a further seed": (set_keys(seeds=[0, 1]), TRAINING),
    "a further method": (
        set_keys(methods=["mtl_sa", "all_in_one"]),
        {"train_epoch": 2, "evaluate_network": 2, "collect_metrics": 1, "all": 1},
    ),
    "another row of methods.yaml": (edit_methods("warmup: 2", "warmup: 1"), {}),
    "the paper's name of a method": (edit_methods("paper_name: MTL-SA", "paper_name: ours"), {}),
    "the decay of the method": (add_keys("decay: 0.2"), from_labels("weigh_distribution")),
    "the scale of the method's decay": (add_keys("decay_scale: median"), from_labels("materialize_labels")),
    "the alignment of the method": (add_keys("alignment: full"), from_labels("materialize_labels")),
    "the strength of the method": (add_keys("strength: 0.5"), from_labels("materialize_labels")),
    "a strength that grows to what it was": (add_keys("strength: {value: 1, ramp: 1}"), {}),
    "a strength that grows until the second epoch": (
        add_keys("strength: {value: 1, ramp: 2}"),
        from_labels("materialize_labels"),
    ),
    "the temperature of the student": (add_keys("student_temperature: 2"), from_labels("materialize_labels")),
    "the normalization of the method's loss": (add_keys("normalization: separate"), from_labels("materialize_labels")),
    "the reliability of the method": (
        add_keys("reliability: transport"),
        add(from_labels("materialize_labels"), {"estimate_reliability": 2}),
    ),
    "the sharpness of the method": (add_keys("sharpness: 2"), from_labels("materialize_labels")),
    "the criteria of the method": (
        edit_methods("selection: [confidence, density, distribution]", "selection: [confidence, density]"),
        add(
            dict.fromkeys(("materialize_labels", "audit_weights", "train_epoch", "evaluate_network"), 2),
            {"extract_features": 1, "estimate_density": 1},
            LAST,
        ),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_redoes_exactly(ran, change):
    apply, redone = CHANGES[change]
    apply(ran)
    assert ran.plan() == redone


def test_a_dry_run_keeps_what_it_read_of_the_code(ran):
    (ran.folder / ".snakemake/code.json").unlink()
    assert ran.plan() == {}
    assert "stages/core/selection.py" in (ran.folder / ".snakemake/code.json").read_text()


def test_fewer_cores_redo_nothing(ran):
    assert "Nothing to be done" in ran.snakemake("--dry-run", "--cores", "1").stdout


def test_without_a_config_in_the_current_folder_the_checkouts_counts(ran):
    shutil.move(ran.folder / "tiny.yaml", ran.folder / "config.yaml")
    elsewhere = ran.folder / "elsewhere"
    elsewhere.mkdir()
    output = ran.snakemake("--dry-run", "--cores", "1", "--directory", "elsewhere", config=None).stdout
    assert "train_epoch " in output
    assert "results/tiny/" in output


def test_the_servers_find_modules_of_the_user_too(ran):
    """PYTHONPATH is extended, never replaced."""
    (ran.folder / "mine").mkdir()
    (ran.folder / "mine/sitecustomize.py").write_text("import os\nos.environ['SEEN'] = 'yes'\n")
    (ran.folder / "results/tiny/seed-0/mtl_sa/metrics.parquet").unlink()
    log = ran.folder / "stages/report/collect_metrics.py"
    log.write_text(
        log.read_text().replace(
            'print(f"\\n', 'import os\n    print("SEEN", os.environ.get("SEEN"))\n    print(f"\\n', 1
        )
    )
    assert "SEEN yes" in ran.snakemake("--cores", "1", environment={"PYTHONPATH": "mine"}).stdout


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A finished run on three label tables, of which one holds labels back; not to be changed."""
    project = copy_project(tmp_path_factory.mktemp("tables"))
    write_three_tasks(project, training__epochs=2)
    for name in ("reds", "greens"):
        path = project.folder / f"images/{name}/labels.csv"
        header, *rows = path.read_text().splitlines()
        values = [f"{row},{'night' if number % 2 else 'day'},x" for number, row in enumerate(rows)]
        path.write_text("\n".join([f"{header},blue,other", *values]) + "\n")
    torch.save({}, project.folder / "weights.pth")
    change_tables(project, ("reds", "columns", "audit"), {"blues_task": "blue"})
    project.snakemake("--cores", "2", config="three.yaml")
    assert project.plan(config="three.yaml") == {}
    return project


@pytest.fixture
def three(tables, tmp_path):
    """A copy of it, to be changed."""
    shutil.copytree(tables.folder, tmp_path, dirs_exist_ok=True)
    return Project(tmp_path)


def change_tables(project, keys, value):
    """Change a setting of a dataset."""
    path = project.folder / "three.yaml"
    settings = yaml.safe_load(path.read_text())
    *sections, last = ("datasets", *keys)
    place = settings
    for section in sections:
        place = place[section]
    place[last] = value
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def move_data(project):
    (project.folder / "images").rename(project.folder / "moved {x}")
    path = project.folder / "three.yaml"
    path.write_text(path.read_text().replace("data_root: images", "data_root: moved {x}"))


def edit_labels(project):
    path = project.folder / "images/reds/labels.csv"
    path.write_text(path.read_text().replace("0.png,dark", "0.png,bright"))


def touch_labels(project):
    path = project.folder / "images/reds/labels.csv"
    path.write_text(path.read_text())


def rename_table(project):
    folder = project.folder / "images/reds"
    (folder / "labels.csv").rename(folder / "renamed.csv")
    change_tables(project, ("reds", "path"), "reds/renamed.csv")


def move_images(project):
    shutil.copytree(project.folder / "images/reds", project.folder / "images/others")
    change_tables(project, ("reds", "images"), "others")


def prepare_reds(*others):
    """The rules that run where one dataset's images are made anew, with all that follows."""
    everything = (
        *("initialize_network", "extract_features", "estimate_density", "fit_mixture", "weigh_distribution"),
        *("materialize_labels", "train_epoch", "evaluate_network", "collect_metrics", "audit_weights", "all"),
    )
    return {"prepare_images", *everything, *others}


@pytest.mark.parametrize(
    ("change", "rules", "n"),
    [
        (move_data, set(), 0),
        (touch_labels, set(), 0),
        (rename_table, set(), 0),
        (edit_labels, prepare_reds("prepare_audit"), 1),
        (move_images, prepare_reds("prepare_audit"), 1),
        (lambda project: change_tables(project, ("reds", "seed"), 1), prepare_reds("prepare_audit"), 1),
        (lambda project: change_tables(project, ("greens", "columns", "audit"), {"blues_task": "blue"}),
         {"prepare_audit", "audit_weights", "all"}, 1),
        (lambda project: change_tables(project, ("reds", "columns", "audit"), {"blues_task": "blue", "else": "other"}),
         {"prepare_audit", "audit_weights", "all"}, 1),
    ],
    ids=["place of all data", "time of a table", "name of a table", "content of a table", "folder of images",
         "seed", "labels held back", "further labels held back"],
)  # fmt: skip
def test_a_change_of_data_redoes_exactly(three, change, rules, n):
    change(three)
    plan = three.plan(config="three.yaml")
    assert set(plan) == rules
    assert plan.get("prepare_audit", 0) == n
    assert plan.get("prepare_images", 0) == (1 if "prepare_images" in rules else 0)


IMAGES = {"height": 32, "width": 32, "mean": [0.5] * 3, "std": [0.5] * 3}


def test_the_content_of_pretrained_weights_counts_and_not_their_place(project):
    project.write_config("tiny.yaml", network={"backbone": "vgg11", "pretrained": "one.pth"}, images=IMAGES)
    layers = torchvision.models.vgg11().features.state_dict()
    weights = {f"features.{name}": value for name, value in layers.items()}
    torch.save(weights, project.folder / "one.pth")
    target = "results/tiny/seed-0/initial/checkpoint.json"
    project.snakemake("--cores", "1", target)
    parameters = json.loads((project.folder / target).read_text())["parameters"]
    assert parameters["pretrained_digest"] == digest_file(project.folder / "one.pth")
    (project.folder / "one.pth").rename(project.folder / "two.pth")
    project.write_config("tiny.yaml", network={"backbone": "vgg11", "pretrained": "two.pth"}, images=IMAGES)
    assert project.plan(target) == {}
    torch.save(weights | {"features.0.bias": weights["features.0.bias"] + 1}, project.folder / "two.pth")
    assert project.plan(target) == {"initialize_network": 1}


def test_an_upgrade_redoes_what_the_library_decides_where_that_is_asked_for(ran):
    """A newer library, as far as its metadata go, is found first."""
    for name in ("torch", "scikit_learn"):
        folder = ran.folder / f"newer/{name}-99.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    upgraded = {"environment": {"PYTHONPATH": "newer"}}
    output = ran.snakemake("--dry-run", "--cores", "1", **upgraded).stdout
    assert "Nothing to be done" in output
    assert re.search(
        r"results/tiny: begun with scikit-learn \S+ \(now scikit-learn 99.0\), torch \S+ \(now torch 99.0\)", output
    )
    ran.write_config("redo.yaml", compute={"threads": 1, "redo_on_upgrade": True})
    assert ran.plan(config="redo.yaml") == {}
    shutil.rmtree(ran.folder / "newer/torch-99.0.dist-info")
    assert ran.plan(config="redo.yaml", **upgraded) == from_labels("fit_mixture")


def test_what_was_thinned_out_is_not_made_again_for_more_epochs(project):
    project.write_config("tiny.yaml", training__epochs=4, storage={"keep_networks": "last", "keep_features": False})
    project.snakemake("--cores", "2")
    assert project.plan() == {}
    run = project.results / "seed-0/mtl_sa"
    networks = {path.parent.name for path in run.glob("epoch-*/network.safetensors")}
    assert "epoch-004" in networks
    assert len(networks) <= 2, "the last and the chosen one"
    assert {path.parent.name for path in run.glob("epoch-*/optimizer.safetensors")} == {"epoch-003", "epoch-004"}
    project.write_config("tiny.yaml", training__epochs=5, storage={"keep_networks": "last", "keep_features": False})
    plan = project.plan()
    assert (plan["train_epoch"], plan["evaluate_network"], plan["collect_metrics"]) == (1, 1, 1)

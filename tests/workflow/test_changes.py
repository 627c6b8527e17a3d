"""What is redone after which change: exactly the jobs whose result depends on it."""

import shutil

import pytest

from tests.workflow.conftest import TINY

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
ALL = add({"prepare_images": 2}, TRAINING)


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


def add_reader(project):
    shutil.copy(project.folder / "stages/sources/table.py", project.folder / "stages/sources/another.py")


def nothing(project):
    """No change."""


CHANGES = {
    "nothing": (nothing, {}),
    "a comment in every module": (comment_everywhere, {}),
    "a docstring": (edit("core/density.py", '"""Local density', '"""The local density'), {}),
    "the message of an error": (edit("core/density.py", "must be above 0 and at most 1", "is wrong"), {}),
    "what a stage prints": (edit("estimate_density.py", 'f"density of', 'f"the density of'), {}),
    "the help of an option": (edit("fit_mixture.py", "C, Gaussian components", "Gaussian components"), {}),
    "the reader of another source": (edit("sources/peta.py", "def read(", "UNUSED = 1\n\n\ndef read("), {}),
    "a further reader": (add_reader, {}),
    "the wording of suggestions": (edit("core/suggestions.py", "MAX_LISTED = 10", "MAX_LISTED = 9"), {}),
    "the contract of a table that no job touches": (
        edit("core/contracts.py", '"seconds_per_epoch", "float64"', '"seconds_per_epoch", "float32"'),
        {},
    ),
    "the check before the first job": (edit("check_experiment.py", "needed > free", "free < needed"), {}),
    "the contract of densities": (
        edit("core/contracts.py", '_probability("density_weight", "w^d, rho', '_probability("density_weight", "rho'),
        from_labels("estimate_density"),
    ),
    "the code of densities": (
        edit("core/density.py", "\ndef estimate_local_density(", "\n_X = 1\n\n\ndef estimate_local_density("),
        {},
    ),
    "the code of the reader in use": (edit("sources/synthetic_faces.py", "0.18, 0.23", "0.19, 0.22"), ALL),
    "the drawing of faces": (edit("core/faces.py", "flush / 2", "flush / 3"), ALL),
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
    "what is kept": (set_keys(storage__keep_optimizers="all", storage__keep_networks="last"), {}),
    "threads of a network": (set_keys(compute__threads=2), TRAINING),
    "the decay": (set_keys(transport__decay=0.2), from_labels("weigh_distribution")),
    "the cutoff of densities": (set_keys(density__cutoff_quantile=0.5), from_labels("estimate_density")),
    "the tolerance of mixtures": (set_keys(mixture__tolerance=0.01), from_labels("fit_mixture")),
    "the temperature of labels": (set_keys(labels__temperature=3), from_labels("materialize_labels")),
    "a quantile that nothing uses": (set_keys(labels__quantile=0.9), {}),
    "the scale of features": (set_keys(features__normalize="none"), EPOCHS | {"evaluate_network": 2}),
    "the learning rate": (set_keys(training__learning_rate=0.002), TRAINING),
    "augmentation": (set_keys(training__augmentation={"shift": 1}), TRAINING),
    "the size of images": (set_keys(images__height=20), ALL),
    "the seed of one dataset": (
        set_keys(datasets__snapshots__seed=7),
        ALL | {"prepare_images": 1},
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


def test_fewer_cores_redo_nothing(ran):
    assert "Nothing to be done" in ran.snakemake("--dry-run", "--cores", "1").stdout

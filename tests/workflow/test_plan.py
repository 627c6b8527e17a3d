"""The plan of a run, by itself."""

import copy
import itertools

import pytest
import yaml

from tests.workflow.conftest import ROOT, TINY
from workflow.plan import Contents, Plan, PlanError, needs_contents

METHODS = yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")) | {"methods": ["mtl_sa"]}
DEFAULTS["training"]["average"] = 0


def make_plan(methods=METHODS, tasks=("expression", "pose"), **changes):
    """A plan of datasets d0, d1, … with one task each and dotted keys changed."""
    settings = copy.deepcopy(DEFAULTS) | {"experiment": "tiny", "seeds": [0]}
    settings["datasets"] = {f"d{n}": {"task": task, "source": "image_folder"} for n, task in enumerate(tasks)}
    settings["training"]["epochs"] = 4
    for key, value in changes.items():
        section, name = key.split("__") if "__" in key else (None, key)
        (settings[section] if section else settings)[name] = value
    return Plan(settings, methods)


def test_alternating_epochs_take_turns_and_mixed_ones_take_all():
    plan = make_plan(tasks=("a", "b", "c"))
    assert [plan.trained_datasets("mtl_sa", epoch) for epoch in (1, 2, 3, 4)] == [["d0"], ["d1"], ["d2"], ["d0"]]
    assert plan.trained_datasets("sfsmr", 2) == ["d0", "d1", "d2"]
    assert plan.trained_datasets("stl", 2) == ["d1"]
    with pytest.raises(PlanError, match="epochs of a method begin at 1"):
        plan.trained_datasets("mtl_sa", 0)


def test_an_epoch_makes_labels_for_the_tasks_that_its_datasets_lack():
    plan = make_plan(tasks=("a", "b", "c"))
    assert plan.augmentations("mtl_sa", 2) == [("a", "d1"), ("c", "d1")]
    assert plan.augmentations("stl", 2) == plan.augmentations("all_in_one", 2) == []
    assert plan.augmentations("lel_ltn", 2) == [], "within its warm-up"
    assert set(plan.augmentations("lel_ltn", 3)) == {
        (task, dataset)
        for task, own in zip("abc", ("d0", "d1", "d2"), strict=True)
        for dataset in ("d0", "d1", "d2")
        if dataset != own
    }


def test_a_mixed_method_may_select_too():
    methods = METHODS | {"mine": {"schedule": "mixed", "selection": ["confidence", "distribution"]}}
    plan = make_plan(methods)
    assert plan.augmentations("mine", 3) == [("pose", "d0"), ("expression", "d1")]
    assert plan.feature_tasks("mine", 3, "d0") == ["expression", "pose"], "labeled domain and unlabeled one"


def test_features_are_wanted_of_the_domains_that_are_compared():
    plan = make_plan(tasks=("a", "b", "c"))
    assert [plan.feature_tasks("mtl_sa", 1, name) for name in plan.datasets] == [["b", "c"], ["b"], ["c"]]
    assert [plan.feature_tasks("mtl_wf", 1, name) for name in plan.datasets] == [["b", "c"], [], []]
    assert plan.feature_tasks("all_in_one", 1, "d0") == []


def test_two_datasets_with_one_task_are_one_labeled_domain():
    plan = make_plan(tasks=("a", "b", "a"))
    assert plan.tasks == ["a", "b"]
    assert plan.datasets_of("a") == ["d0", "d2"]
    assert plan.augmentations("mtl_sa", 2) == [("a", "d1")]
    assert [plan.feature_tasks("mtl_sa", 2, name) for name in plan.datasets] == [["a"], ["a"], ["a"]]


def test_criteria_need_their_tables():
    plan = make_plan()
    assert plan.selection_tables("mtl_sa") == ["density", "responsibilities", "transport"]
    assert plan.selection_tables("only_mmd") == ["responsibilities", "discrepancy"]
    assert plan.selection_tables("only_density") == ["density"]
    assert plan.selection_tables("dcn_ap") == ["refinement"]
    assert plan.selection_tables("constant_05") == plan.selection_tables("all_in_one") == []


def test_settings_of_labels_that_have_no_use_are_constant():
    plan = make_plan(labels__temperature=3, labels__interpolation="threshold", labels__quantile=0.9)
    assert plan.label_settings("mtl_sa") == {
        "selection": ["confidence", "density", "distribution"],
        "distance": "emd",
        "decay_scale": "absolute",
        "sharpness": 1,
        "alignment": "none",
        "temperature": 3,
        "interpolation": "threshold",
        "quantile": 0.9,
        "student_temperature": 1,
        "normalization": "joint",
    }
    assert plan.label_settings("constant_05")["interpolation"] == "soft"
    assert plan.label_settings("mtl_wf")["temperature"] == 1
    assert plan.label_settings("lel_ltn") == {
        "selection": 0,
        "distance": "emd",
        "decay_scale": "absolute",
        "sharpness": 1,
        "alignment": "none",
        "temperature": 1,
        "interpolation": "soft",
        "quantile": 0,
        "student_temperature": 1,
        "normalization": "joint",
    }


def test_keys_of_samples_of_which_the_mode_makes_no_use_are_0():
    def sampling(mode):
        return make_plan(density__mode=mode, density__exact_up_to=7, density__sample_size=5).density_sampling()

    assert sampling("auto") == {"mode": "auto", "exact_up_to": 7, "sample_size": 5}
    assert sampling("sampled") == {"mode": "sampled", "exact_up_to": 0, "sample_size": 5}
    assert sampling("exact") == {"mode": "exact", "exact_up_to": 0, "sample_size": 0}


def test_an_alignment_needs_the_labels_of_all_datasets_with_the_task():
    plan = make_plan({"mine": METHODS["mtl_wf"] | {"alignment": "once"}}, tasks=("a", "b", "a"))
    place = {"seed": 0, "method": "mine", "epoch": 2, "task": "a", "dataset": "d1"}
    assert plan.selection_paths(**place) == {
        "labeled": ["results/tiny/data/d0/train.parquet", "results/tiny/data/d2/train.parquet"]
    }
    assert plan.feature_tasks("mine", 2, "d0") == [], "no network need look at them"


def test_a_strength_may_grow_over_the_first_epochs():
    rows = {"half": {"strength": 0.5}, "ramped": {"strength": {"value": 2, "ramp": 4}}}
    plan = make_plan(METHODS | {name: METHODS["mtl_sa"] | row for name, row in rows.items()})
    assert [plan.strength("mtl_sa", epoch) for epoch in (1, 9)] == [1, 1]
    assert [plan.strength("half", epoch) for epoch in (1, 9)] == [0.5, 0.5]
    assert [plan.strength("ramped", epoch) for epoch in (1, 2, 3, 4, 5)] == [0.5, 1, 1.5, 2, 2]


def test_a_strength_that_is_scaled_needs_an_estimate():
    rows = {
        "rated": METHODS["mtl_sa"] | {"reliability": "validation"},
        "balanced": METHODS["mtl_wf"] | {"balance": "rows"},
        "neither": METHODS["mtl_wf"] | {"balance": "none", "reliability": "none"},
    }
    plan = make_plan(METHODS | rows)
    assert plan.selection_tables("rated") == [*plan.selection_tables("mtl_sa"), "reliability"]
    assert plan.selection_tables("balanced") == ["reliability"]
    assert plan.selection_tables("neither") == []
    place = {"seed": 0, "method": "balanced", "epoch": 2, "task": "expression", "dataset": "d1"}
    path = "results/tiny/seed-0/balanced/epoch-002/expression/d1/reliability.json"
    assert plan.selection_paths(**place) == {"reliability": path}
    assert plan.reliability(**place) == [path]
    assert plan.reliability(**place | {"method": "mtl_sa"}) == []
    assert {artifact.path: artifact.rule for artifact in plan.artifacts()}[path] == "estimate_reliability"


def test_a_method_may_have_its_own_decay():
    plan = make_plan(METHODS | {"mine": METHODS["mtl_sa"] | {"decay": 2}}, transport__decay=0.3)
    assert (plan.decay("mtl_sa"), plan.decay("mine")) == (0.3, 2)


def test_only_mixed_batches_are_balanced_and_only_other_epochs_are_equalized():
    plan = make_plan(training__sampling="balanced", training__steps="equal")
    assert [plan.sampling(method) for method in ("all_in_one", "mtl_sa", "stl")] == ["balanced", *["proportional"] * 2]
    manifests = [f"results/tiny/data/d{number}/train.parquet" for number in range(2)]
    assert [plan.equalized_tables(method) for method in ("all_in_one", "mtl_sa", "stl")] == [[], manifests, manifests]
    assert make_plan().equalized_tables("mtl_sa") == []


def test_the_epochs_are_parts_of_the_run_without_gaps():
    plan = make_plan(tasks=("a", "b", "c"), training__schedule="cosine", training__initial_epochs=2)
    parts = [plan.part_of_run(epoch) for epoch in range(5)]
    assert parts[0][0] == 0
    assert parts[-1][1] == 1
    assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))
    # Two passes, and four thirds of one.
    assert [round(end - start, 12) for start, end in parts] == [round(2 / (10 / 3), 12), *[round(0.1, 12)] * 4]
    assert make_plan().part_of_run(3) == make_plan().part_of_run(0) == [0, 1], "nothing depends on it"


def test_the_last_weights_teach_only_where_there_are_others():
    assert not make_plan(labels__teacher="last").last_weights_teach
    assert not make_plan(training__average=0.99).last_weights_teach
    assert make_plan(training__average=0.99, labels__teacher="last").last_weights_teach


def test_labels_that_an_epoch_does_not_make_are_refused_with_those_that_it_makes():
    plan = make_plan()
    plan.check_augmentation("mtl_sa", 1, "pose", "d0")
    with pytest.raises(PlanError, match=r"Epoch 1 of 'mtl_sa' makes no labels for 'pose' of 'd1'; .*: pose/d0"):
        plan.check_augmentation("mtl_sa", 1, "pose", "d1")


def test_the_first_epoch_starts_from_the_joint_or_the_separate_training():
    plan = make_plan()
    assert plan.checkpoint(7, "mtl_sa", 0)["network"] == "results/tiny/seed-7/initial/network.safetensors"
    assert plan.checkpoint(7, "stl", 0)["card"] == "results/tiny/seed-7/initial_separate/checkpoint.json"
    assert plan.checkpoint(7, "stl", 12)["card"] == "results/tiny/seed-7/stl/epoch-012/checkpoint.json"


def test_logs_lie_as_results_do():
    layout = make_plan().layout
    assert layout["augmented"] == "results/tiny/seed-{seed}/{method}/epoch-{epoch}/{task}/{dataset}"
    assert layout["augmented_logs"] == "logs/tiny/seed-{seed}/{method}/epoch-{epoch}/{task}/{dataset}"


@pytest.mark.parametrize(
    ("kept", "left", "gone_after_4"),
    [(2, [0, 3, 4], ["002"]), (3, [0, 2, 3, 4], ["001"]), ("all", [0, 1, 2, 3, 4], [])],
)
def test_old_optimizer_states_go(kept, left, gone_after_4):
    plan = make_plan(storage__keep_optimizers=kept)
    assert [epoch for epoch in range(5) if plan.keeps_optimizer(epoch)] == left
    assert plan.discarded_optimizers(0, "mtl_sa", 4) == [
        f"results/tiny/seed-0/mtl_sa/epoch-{epoch}/optimizer.safetensors" for epoch in gone_after_4
    ]
    # Over a whole run just those go that are not kept.
    discarded = [path for epoch in range(1, 5) for path in plan.discarded_optimizers(0, "mtl_sa", epoch)]
    assert len(discarded) == 5 - len(left)


@pytest.mark.parametrize(("kept", "left"), [("all", [0, 1, 2, 3, 4]), ("last", [0, 4]), ({"every": 3}, [0, 3, 4])])
def test_old_networks_may_go(kept, left):
    plan = make_plan(storage__keep_networks=kept)
    assert [epoch for epoch in range(5) if plan.keeps_network(epoch)] == left
    gone = [path.split("/")[-2] for path in plan.thinned_networks(0, "mtl_sa")]
    assert gone == [f"epoch-{epoch:03d}" for epoch in range(5) if epoch not in left]


def test_the_list_of_artifacts_knows_what_may_be_gone_and_who_wrote_it():
    plan = make_plan(comparison__methods=["mtl_sa", "stl"], comparison__seeds=[0, 1], storage__keep_features=False)
    artifacts = {artifact.path: artifact for artifact in plan.artifacts()}
    run = "results/tiny/seed-0/mtl_sa"
    assert artifacts[f"{run}/epoch-001/pose/d0/density.parquet"].rule == "estimate_density"
    assert artifacts[f"{run}/epoch-001/features/d1.parquet"].disposable
    assert artifacts[f"{run}/epoch-001/pose/d0/responsibilities.parquet"].disposable
    assert not artifacts[f"{run}/epoch-001/pose/d0/weights.parquet"].disposable
    assert artifacts[f"{run}/epoch-001/optimizer.safetensors"].disposable
    assert artifacts["results/tiny/seed-0/initial/network.safetensors"].target == "all"
    assert artifacts["results/tiny/seed-0/initial_separate/network.safetensors"].target == "comparison"
    assert artifacts["results/tiny/seed-1/mtl_sa/metrics.parquet"].target == "comparison"
    assert artifacts[f"{run}/network.onnx"].target == "export"
    assert len(plan.artifacts()) == len(artifacts)


def test_audits_are_of_labels_held_back():
    plan = make_plan()
    assert plan.audits() == []
    plan = Plan(DEFAULTS | {"datasets": TINY["datasets"], "experiment": "tiny"}, METHODS)
    assert plan.audited_tasks("snapshots") == ["pose"]
    assert plan.audits()[:2] == [
        "results/tiny/seed-0/mtl_sa/epoch-001/pose/snapshots/audit.parquet",
        "results/tiny/seed-0/mtl_sa/epoch-002/expression/portraits/audit.parquet",
    ]


def make_gaps(**changes):
    """A plan of a table with gaps in one of its two tasks, a dataset for a third, and one without labels."""
    settings = copy.deepcopy(DEFAULTS) | {"experiment": "tiny", "seeds": [0]}
    settings["datasets"] = {
        "clinic": {"source": "table", "labels": {"a": "x", "b": "y"}, "audit": {"c": "z"}},
        "web": {"source": "image_folder", "task": "c"},
        "street": {"source": "image_folder", "labels": {}},
    }
    settings["training"]["epochs"] = 6
    settings["schedule"] = {"turns": "in_turn"} | changes
    contents = {name: Contents(n, {}) for name, n in (("web", 20), ("street", 10))}
    return Plan(settings, METHODS, {"clinic": Contents(30, {"a": 0, "b": 4})} | contents)


def test_labels_are_made_where_some_lack_and_from_all_that_have_them():
    plan = make_gaps()
    assert plan.tasks == ["a", "b", "c"]
    assert plan.augmentations("mtl_sa", 1) == [("b", "clinic"), ("c", "clinic")]
    assert plan.augmentations("mtl_sa", 2) == [("a", "web"), ("b", "web")]
    assert plan.augmentations("mtl_sa", 3) == [("a", "street"), ("b", "street"), ("c", "street")]
    assert plan.feature_tasks("mtl_sa", 1, "clinic") == ["b", "c"], "its own samples with a label are compared, too"
    assert plan.feature_tasks("mtl_sa", 3, "clinic") == ["a", "b"]
    assert plan.feature_tasks("mtl_sa", 3, "street") == ["a", "b", "c"]
    assert plan.held_back("c", "clinic") == ["results/tiny/data/clinic/audit/train.parquet"]
    assert plan.held_back("b", "clinic") == []
    assert plan.name_domains("b", "clinic") == ["clinic (unlabelled)", "clinic"]
    assert plan.name_domains("b", "web") == ["web", "clinic"]
    assert plan.weighed_epochs("mtl_sa", "b", "clinic") == [1, 4]
    with pytest.raises(PlanError, match="No epoch of 'mtl_sa' makes labels for 'a' of 'clinic'"):
        plan.weighed_epochs("mtl_sa", "a", "clinic")


def test_turns_by_size_keep_to_the_shares_of_the_images():
    plan = make_gaps(turns="by_size")
    turns = [plan.find_turn(epoch) for epoch in range(1, 13)]
    assert turns[:6] == ["clinic", "web", "clinic", "street", "web", "clinic"]
    assert [turns.count(name) for name in plan.datasets] == [6, 4, 2]
    assert plan.find_turn(2) == "web", "whatever was asked before"


def test_only_what_may_have_gaps_or_sizes_that_count_is_read():
    assert [needs_contents(make_gaps().settings, name) for name in ("clinic", "web", "street")] == [True, False, False]
    assert all(needs_contents(make_gaps(turns="by_size").settings, name) for name in ("clinic", "web", "street"))

# What the rules share: the plan of the run, what identifies a result, options of several stages.
import json
import os
import sys
from pathlib import Path
from shlex import quote

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir)
sys.path.insert(0, str(BASE))

from stages.core.weight_names import is_file
from stages.settings.errors import SettingsError
from stages.data.sources.label_files import audit_settings, decisive_settings, list_label_files, place_images
from workflow.identity import Code, FileCache, Libraries, digest_contents, find_device
from workflow.launch import check, load_settings, start_servers, write_plan
from workflow.plan import CHECKPOINT_FILES, HELD_OUT, SPLITS, Plan, PlanError

# Each epoch waits for the one before it, and Snakemake follows such a chain by recursion.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 100_000))

try:
    files = [Path(file) for file in workflow.config_settings.configfiles] or [CONFIG]
    config, METHODS = load_settings(config, files, workflow.config_settings.config)
except SettingsError as error:
    raise WorkflowError(str(error)) from None

PLAN = Plan(config, METHODS)
DATASETS = config["datasets"]
SEEDS = config["seeds"]
# Both may be lost at any time.
CODE = Code(BASE, Path(".snakemake/code.json"))
CONTENTS = FileCache(Path(".snakemake/contents.json"))
LIBRARIES = Libraries(f"{PLAN.layout['results']}/plan.json", redo=config["compute"]["redo_on_upgrade"])
if workflow.is_main_process:
    LIBRARIES.say_what_differs()


NAMES = {
    "seed": r"\d+",
    "epoch": r"(?!000)\d\d\d|[1-9]\d\d\d+",
    "dataset": "|".join(PLAN.datasets),
    "task": "|".join(PLAN.tasks),
    "method": "|".join(METHODS),
    "initial": "initial|initial_separate",
}


wildcard_constraints:
    **NAMES,
    checkpoint=rf"{NAMES['initial']}|({NAMES['method']})/epoch-({NAMES['epoch']})",


# Snakemake does not constrain the wildcards within these by itself.
pathvars:
    **{
        name: path.format(**{wildcard: f"{{{wildcard},{names}}}" for wildcard, names in NAMES.items()})
        for name, path in PLAN.layout.items()
    },


# Stages are found wherever Snakemake was started from, and run in its own Python.
SEARCH_PATHS = (
    f"PYTHONPATH={quote(str(BASE))}${{PYTHONPATH:+:$PYTHONPATH}} PATH={quote(str(Path(sys.executable).parent))}:$PATH"
)
shell.prefix(f"set -euo pipefail; export {SEARCH_PATHS}; ".replace("{", "{{").replace("}", "}}"))

# What is printed is kept as well.
TEE = " 2>&1 | tee {log}"

# For jobs whose result does not depend on their threads: all cores, but for density those that the
# mixtures of the same features can use meanwhile.
ALL_CORES = workflow.resource_settings.cores or config["compute"]["threads"]
DENSITY_CORES = max(1, ALL_CORES - config["compute"]["threads"])


def identify(stage, *entries):
    """What identifies the code behind a result, so that an edit reruns just the jobs that use it."""
    return [CODE.digest(stage, *entries), *LIBRARIES.pick(CODE.libraries(stage, *entries))]


def untracked(value):
    """A param that says where or how to compute, not what: changing it reruns nothing."""
    return lambda wildcards, input: value(wildcards) if callable(value) else value


def disposable(path):
    """An artifact that storage.keep_features: false deletes once it is used."""
    return path if config["storage"]["keep_features"] else temp(path)


def prepared(datasets, *splits):
    """Manifests and images of datasets, as named inputs."""
    paths = [f"{PLAN.locate('data', dataset=dataset)}/{split}" for dataset in datasets for split in splits]
    return {"tables": [f"{path}.parquet" for path in paths], "images": [f"{path}.npy" for path in paths]}


def features_of(datasets):
    """Inputs of an augmentation: the features of some datasets in its epoch, by its wildcards."""

    def paths(wildcards):
        try:
            PLAN.check_augmentation(wildcards.method, int(wildcards.epoch), wildcards.task, wildcards.dataset)
        except PlanError as error:
            raise WorkflowError(str(error)) from None
        return [f"{PLAN.locate('epoch', **wildcards)}/features/{dataset}.parquet" for dataset in datasets(wildcards)]

    return paths


UNLABELED = features_of(lambda wildcards: [wildcards.dataset])
LABELED = features_of(lambda wildcards: PLAN.datasets_of(wildcards.task))


def begin_run():
    """Stop a run before its first job where its data, its settings or the disk will not do."""
    CODE.save()
    CONTENTS.save()
    names, seeds = config["methods"], SEEDS
    if any(Path(target).stem in ("comparison", "timing") for target in workflow.dag_settings.targets):
        names, seeds = PLAN.compared_methods, PLAN.compared_seeds
    if not check(config, [METHODS[name] for name in names], len(seeds), PLAN.layout["results"], BASE):
        raise WorkflowError("The experiment cannot run; the line above says why. Nothing was written.")
    write_plan(LIBRARIES, PLAN, workflow, BASE)
    if config["compute"]["warm_start"] and workflow.local_exec:
        start_servers(BASE)

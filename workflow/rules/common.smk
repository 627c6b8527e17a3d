# What the rules share: the plan of the run, what identifies a result, options of several stages.
import atexit
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
from workflow.launch import begin_run, load_settings
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
# Both may be lost at any time; a dry run keeps what it read as well.
CODE = Code(BASE, Path(".snakemake/code.json"))
CONTENTS = FileCache(Path(".snakemake/contents.json"))
for cache in (CODE, CONTENTS):
    atexit.register(cache.save)
LIBRARIES = Libraries(f"{PLAN.layout['results']}/plan.json", redo=config["compute"]["redo_on_upgrade"])
if workflow.is_main_process:
    LIBRARIES.say_what_differs()


wildcard_constraints:
    **PLAN.names,
    checkpoint=rf"{PLAN.names['initial']}|({PLAN.names['method']})/epoch-({PLAN.names['epoch']})",


pathvars:
    **PLAN.pathvars,


# Stages are found wherever Snakemake was started from, and run in its own Python.
SEARCH_PATHS = (
    f"PYTHONPATH={quote(str(BASE))}${{PYTHONPATH:+:$PYTHONPATH}} PATH={quote(str(Path(sys.executable).parent))}:$PATH"
)
shell.prefix(f"set -euo pipefail; export {SEARCH_PATHS}; ".replace("{", "{{").replace("}", "}}"))


# For jobs whose result does not depend on their threads: all cores, but for density those that the
# mixtures of the same features can use meanwhile.
ALL_CORES = workflow.resource_settings.cores or config["compute"]["threads"]
DENSITY_CORES = max(1, ALL_CORES - config["compute"]["threads"])


def identify(stage, *entries):
    """What identifies the code behind a result, so that an edit reruns just the jobs that use it."""
    return [CODE.digest(stage, *entries), *LIBRARIES.pick(CODE.libraries(stage, *entries))]


def command(*parts):
    """A stage's command line, of which what it prints is kept as well."""
    return "".join([*parts, " 2>&1 | tee {log}"])


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


def previous_checkpoint(wildcards):
    """The checkpoint that an epoch starts from."""
    return PLAN.checkpoint(wildcards.seed, wildcards.method, int(wildcards.epoch) - 1)


def previous_metrics(wildcards):
    """The scores of the network that an epoch starts from."""
    epoch = int(wildcards.epoch) - 1
    return f"{PLAN.locate('epoch', seed=wildcards.seed, method=wildcards.method, epoch=epoch)}/metrics.json"


def pretrained_digest():
    """Of the content of a local file of pretrained weights."""
    name = config["network"]["pretrained"]
    return digest_contents([Path(name)], CONTENTS) if is_file(name) else name


def epoch_labels(wildcards):
    return PLAN.epoch_labels(wildcards.seed, wildcards.method, int(wildcards.epoch))


def files_of_checkpoints(file):
    return lambda wildcards: PLAN.files_of_epochs(wildcards.seed, wildcards.method, file)


def label_digests(wildcards):
    """Of the contents of a dataset's label files: another content redoes its images, another place does not."""
    files = list_label_files(DATASETS[wildcards.dataset], config["data_root"])
    return digest_contents(files, CONTENTS)


def reader_of(dataset):
    """The function that reads a dataset, which the stages find by its name only."""
    return f"stages.data.sources.{DATASETS[dataset]['source']}.read"


def identify_images(wildcards):
    """What decides a dataset's images beside its settings."""
    return [*identify("data.prepare_images", reader_of(wildcards.dataset)), *label_digests(wildcards)]


def cache_options(wildcards):
    """Where experiments share decoded images, and what identifies these."""
    if config["storage"]["image_cache"] is None:
        return ""
    identity = quote(" ".join(identify_images(wildcards)))
    return f"--cache {quote(config['storage']['image_cache'])} --identity {identity}"


UNLABELED = features_of(lambda wildcards: [wildcards.dataset])
LABELED = features_of(lambda wildcards: PLAN.datasets_of(wildcards.task))

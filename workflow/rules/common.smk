# What the rules share: the plan of the run, what identifies a result, options of several stages.
import atexit
import inspect
import json
import os
import sys
from pathlib import Path
from shlex import quote

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir)
sys.path.insert(0, str(BASE))

from stages.core.weight_names import is_file
from stages.core.errors import UserError
from stages.settings.errors import SettingsError
from stages.data.sources.label_files import audit_settings, decisive_settings, list_label_files, place_images
from workflow.ending import leave_quietly, shorten_messages
from workflow.identity import Code, FileCache, Libraries, digest_contents, find_device
from workflow.launch import begin_run, load_settings, read_contents
from workflow.object_storage import enter_storage
from workflow.plan import CHECKPOINT_FILES, HELD_OUT, SPLITS, Plan, PlanError
from workflow.recovery import enter_folder, tidy_results
from workflow.resources import count_processes, list_resources

if workflow.is_main_process:
    leave_quietly()
    shorten_messages(workflow.output_settings.quiet)
    KILLED = enter_folder(workflow)

# The local copies of what lies in object storage; None where results are files of this machine.
STORAGE = enter_storage(workflow)

# Each epoch waits for the one before it, and Snakemake follows such a chain by recursion.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 100_000))

try:
    files = [Path(file) for file in workflow.config_settings.configfiles] or [CONFIG]
    config, METHODS = load_settings(config, files, workflow.config_settings.config)
except SettingsError as error:
    raise WorkflowError(str(error)) from None

DATASETS = config["datasets"]
SEEDS = config["seeds"]
# All may be lost at any time; a dry run keeps what it read as well.
CODE = Code(BASE, Path(".snakemake/code.json"))
CONTENTS = FileCache(Path(".snakemake/contents.json"))
READ = FileCache(Path(".snakemake/datasets.json"))
for cache in (CODE, CONTENTS, READ):
    atexit.register(cache.save)
try:
    PLAN = Plan(config, METHODS, read_contents(config, CODE, READ))
except UserError as error:
    raise WorkflowError(str(error)) from None
LIBRARIES = Libraries(f"{PLAN.layout['results']}/plan.json", redo=config["compute"]["redo_on_upgrade"])
if workflow.is_main_process:
    if KILLED:
        tidy_results(PLAN.layout["results"], BASE)
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
# What is printed goes to the logs alone where a logger says how far the run is; see workflow/progress.py.
SILENCE = "exec >/dev/null; " if os.environ.get("STAGES_SILENT") else ""
# Where results lie in object storage, what is recorded names them as a local run would.
PLACE = f" STAGE_STORAGE={quote(STORAGE)}" if STORAGE else ""
# Interrupts are for Snakemake, which then interrupts the stages; what they print shall still find its way.
PREFIX = f"trap '' INT HUP; set -euo pipefail; export STAGE_MEMORY=1 {SEARCH_PATHS}{PLACE}; {SILENCE}"
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))


# For jobs whose result does not depend on their threads: all cores, but for density those that the
# mixtures of the same features can use meanwhile.
ALL_CORES = workflow.resource_settings.cores or config["compute"]["threads"]
DENSITY_CORES = max(1, ALL_CORES - config["compute"]["threads"])


DEVICE_KIND = find_device(config["compute"]["device"], os.environ)
DEVICES = config["training"]["devices"]
# On one machine they queue for the cards: stages take the first that they see. A scheduler gives each its own.
if DEVICE_KIND == "cuda" and workflow.local_exec and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", DEVICES)


def ask(rule):
    """What a rule asks of a scheduler."""
    return list_resources(rule, DEVICE_KIND, DEVICES, shared=workflow.local_exec)


def network_threads(rule):
    """Those of a rule that runs a network, in all of its processes."""
    return config["compute"]["threads"] * count_processes(rule, DEVICES)


def identify(stage, *entries):
    """What identifies the code behind a result, so that an edit reruns just the jobs that use it."""
    return [CODE.digest(stage, *entries), *LIBRARIES.pick(CODE.libraries(stage, *entries))]


def command(*parts):
    """A stage's command line, of which what it prints is kept as well; how much memory it took is for the log alone."""
    return "".join([*parts, " 2>&1 | tee {log} | (grep --line-buffered -v ': peak memory ' || true)"])


def untracked(value):
    """A param that says where or how to compute, not what: changing it reruns nothing."""
    return lambda wildcards, input: value(wildcards) if callable(value) else value


def name_values(params):
    """A param that says which of the others has which value.

    Snakemake compares the values of params as a set: 0.9 in the place of 0 would not be seen where both also stand
    elsewhere.
    """
    tracked = {
        name: value
        for name, value in params.items()
        if not callable(value) or "input" not in inspect.signature(value).parameters
    }
    return lambda wildcards: json.dumps(
        {name: value(wildcards) if callable(value) else value for name, value in tracked.items()}, default=str
    )


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


def what_runs_say(runs):
    """Inputs about the samples, of the training splits and of runs; features are read where they still are."""
    return {
        **prepared(PLAN.datasets, "train"),
        "audits": [
            f"{PLAN.locate('data', dataset=dataset)}/audit/train.parquet" for dataset in PLAN.audited_datasets()
        ],
        "labels": PLAN.label_tables(runs),
    }


UNLABELED = features_of(lambda wildcards: [wildcards.dataset])
LABELED = features_of(lambda wildcards: PLAN.datasets_of(wildcards.task))

# Of the report. Snakemake sorts what it shows by name: the numbers are the order.
CATEGORIES = {
    "overview": "1 Overview",
    "training": "2 Training",
    "weights": "3 Weights",
    "truth": "4 Do the weights tell the truth?",
    "domains": "5 Domains",
    "samples": "6 Samples",
    "comparison": "7 Comparison",
}
COMPARED = [Path(f"{PLAN.layout['results']}/comparison.{kind}") for kind in ("parquet", "svg")]
EXPERIMENT_REPORT, RUN_REPORT = "<results>/report", "<run>/report"
PAIR_LOGS = "<results_logs>/report/seed-{seed}/{method}/{task}/{dataset}"


def picture(path, category, name):
    """A figure or table of the report: its category, what it is called there, and its caption by its own name.

    One label only: Snakemake turns a second one with two values into a switch that hides half of the pictures.
    """
    return report(
        path,
        category=CATEGORIES[category],
        subcategory=lambda wildcards: describe_run(wildcards) if "seed" in wildcards.keys() else "experiment",
        labels={"figure": f"{{task}} of {{dataset}}: {name}" if "{task}" in path else name},
        caption=f"../report/{category}/{Path(path).stem}.rst",
    )


def describe_run(wildcards):
    return f"{wildcards.method}, seed {wildcards.seed}"


def pair_folder(part):
    return f"{RUN_REPORT}/{part}/{{task}}/{{dataset}}"


def weighed_epochs(wildcards):
    """The epochs that weigh a dataset's samples for a task."""
    try:
        return PLAN.weighed_epochs(wildcards.method, wildcards.task, wildcards.dataset)
    except PlanError as error:
        raise WorkflowError(str(error)) from None


def end_epochs(wildcards):
    """The first and the last of these, which may be one."""
    epochs = weighed_epochs(wildcards)
    return sorted({epochs[0], epochs[-1]})


def files_of_pair(file, epochs):
    """A file of the label tables of some epochs."""
    return lambda wildcards: [
        f"{PLAN.locate('augmented', **{**wildcards, 'epoch': epoch})}/{file}" for epoch in epochs(wildcards)
    ]


def features_at_ends(datasets):
    """Features of some datasets in the first and the last of these epochs, one dataset after another."""
    return lambda wildcards: [
        f"{PLAN.locate('epoch', seed=wildcards.seed, method=wildcards.method, epoch=epoch)}/features/{dataset}.parquet"
        for dataset in datasets(wildcards)
        for epoch in end_epochs(wildcards)
    ]


def held_back(wildcards):
    """Labels held back for a task, where a dataset has such."""
    return PLAN.held_back(wildcards.task, wildcards.dataset)


def audit_option(wildcards):
    return " ".join(f"--audit-table {path}" for path in held_back(wildcards))


def name_domains(wildcards):
    return PLAN.name_domains(wildcards.task, wildcards.dataset)

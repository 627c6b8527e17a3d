# What the rules share: checked settings, paths, and who needs what. The only helper functions.
import ast
import atexit
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from shlex import quote

import yaml
from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir)
sys.path.insert(0, str(BASE))

from stages.core.pretrained import is_file
from stages.core.schedule import augmented_tasks, trained_dataset
from stages.settings.checks import load_experiment
from stages.settings.errors import SettingsError

# Each epoch waits for the one before it, and Snakemake follows such a chain by recursion.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 100_000))


def locate(path, *keys):
    """A path in the settings: it starts from the config file that sets it, or from here if --config does."""

    def sets(settings):
        for key in keys:
            settings = settings.get(key) if isinstance(settings, dict) else None
        return settings is not None

    if sets(workflow.config_settings.config):
        return path
    files = [Path(file) for file in workflow.config_settings.configfiles] or [Path("config.yaml")]
    setting = [file for file in files if sets(yaml.safe_load(file.read_text(encoding="utf-8")))]
    place = (setting or files)[-1].parent.resolve() / path
    return os.path.relpath(place) if place.resolve().is_relative_to(Path.cwd()) else str(place)


def load_settings():
    """The experiment's settings and the methods, checked, defaults filled in."""
    names = [str(path) for path in workflow.config_settings.configfiles] or ["config.yaml"]
    source = ", ".join(names)
    try:
        settings, methods = load_experiment(names, config, source)
    except SettingsError as error:
        raise WorkflowError(str(error)) from None
    settings["data_root"] = locate(settings["data_root"], "data_root")
    if is_file(settings["network"]["pretrained"]):
        path = locate(settings["network"]["pretrained"], "network", "pretrained")
        # Snakemake takes what was made from a missing file to be up to date.
        if not Path(path).is_file():
            raise WorkflowError(f"{source}: network.pretrained: '{path}' does not exist; correct it or get the file")
        settings["network"]["pretrained"] = path
    return settings, methods


config, METHODS = load_settings()
config["comparison"]["methods"] = config["comparison"]["methods"] or list(METHODS)

DATASETS = config["datasets"]
TASK_OF = {dataset: settings["task"] for dataset, settings in DATASETS.items()}
DATASET_OF = {task: dataset for dataset, task in TASK_OF.items()}
SEEDS = config["seeds"]
SPLITS = ["train", "validation", "test"]
HELD_OUT = ["validation", "test"]
LAST_EPOCH = config["training"]["epochs"]
# For jobs whose result does not depend on their threads: all cores, but for density those that the
# mixtures of the same features can use meanwhile.
ALL_CORES = workflow.resource_settings.cores or config["compute"]["threads"]
DENSITY_CORES = max(1, ALL_CORES - config["compute"]["threads"])
DISTRIBUTION_METHODS = [
    name
    for name, row in METHODS.items()
    if isinstance(row.get("selection"), list) and "distribution" in row["selection"]
]
TRANSFER_METHODS = [name for name, row in METHODS.items() if "label_transfer" in row]

# Folders of artifacts, with wildcards; everything of an experiment lies below RESULTS, its logs and
# benchmark files below LOGS in the same arrangement.
RESULTS = f"results/{config['experiment']}"
LOGS = f"logs/{config['experiment']}"
DATA = f"{RESULTS}/data/{{dataset}}"
INITIAL = f"{RESULTS}/seed-{{seed}}/initial"
INITIAL_SEPARATE = f"{RESULTS}/seed-{{seed}}/initial_separate"
METHOD_RUN = f"{RESULTS}/seed-{{seed}}/{{method}}"
EPOCH = f"{METHOD_RUN}/epoch-{{epoch}}"
TASK = f"{EPOCH}/{{task}}"
CHECKPOINT_FILES = {
    "network": "network.safetensors",
    "optimizer": "optimizer.safetensors",
    "card": "checkpoint.json",
}


wildcard_constraints:
    seed=r"\d+",
    epoch=r"(?!000)\d\d\d|[1-9]\d\d\d+",
    dataset="|".join(DATASETS),
    task="|".join(DATASET_OF),
    method="|".join(METHODS),
    checkpoint=rf"initial|initial_separate|({'|'.join(METHODS)})/epoch-((?!000)\d\d\d|[1-9]\d\d\d+)",


ENVIRONMENT = str(BASE / "environment.yml")

# Stages are found wherever Snakemake was started from, and run in its own Python unless conda gives one.
SEARCH_PATHS = f"PYTHONPATH={quote(str(BASE))}${{PYTHONPATH:+:$PYTHONPATH}}"
if not workflow.deployment_settings.deployment_method:
    SEARCH_PATHS += f" PATH={quote(str(Path(sys.executable).parent))}:$PATH"
shell.prefix(f"set -euo pipefail; export {SEARCH_PATHS}; ".replace("{", "{{").replace("}", "}}"))


def stage_digest(stage):
    """Hash of a stage's module and of all modules of the project that it imports.

    Given to a rule as a param, it makes an edit rerun exactly the jobs that run the edited code.
    """
    pending, sources = [BASE / "stages" / f"{stage}.py"], {}
    while pending:
        path = pending.pop()
        if path in sources:
            continue
        sources[path] = path.read_bytes()
        for node in ast.walk(ast.parse(sources[path])):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [
                    node.module,
                    *(f"{node.module}.{alias.name}" for alias in node.names),
                ]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            modules = [BASE / f"{name.replace('.', '/')}.py" for name in names if name.startswith("stages.")]
            pending += [module for module in modules if module.exists()]
    digest = hashlib.sha256()
    for path in sorted(sources):
        for part in (path.relative_to(BASE).as_posix().encode(), sources[path]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()[:16]


def untracked(value):
    """A param that says where or how to compute, not what: changing it reruns nothing."""
    return lambda wildcards, input: value


def disposable(path):
    """An artifact that storage.keep_features: false deletes once it is used."""
    return path if config["storage"]["keep_features"] else temp(path)


def checkpoint_files(folder):
    return {name: f"{folder}/{file}" for name, file in CHECKPOINT_FILES.items()}


def schedule_of(wildcards):
    return METHODS[wildcards.method]["schedule"]


def initial_folder(wildcards):
    """What a method's first epoch starts from: joint training, or one network per task."""
    folder = INITIAL_SEPARATE if schedule_of(wildcards) == "single" else INITIAL
    return folder.format(seed=wildcards.seed)


def previous_checkpoint(wildcards):
    """The checkpoint that an epoch starts from."""
    epoch = int(wildcards.epoch)
    if epoch == 1:
        return checkpoint_files(initial_folder(wildcards))
    previous = EPOCH.format(seed=wildcards.seed, method=wildcards.method, epoch=f"{epoch - 1:03d}")
    return checkpoint_files(previous)


def dataset_of_epoch(wildcards):
    return trained_dataset(int(wildcards.epoch), list(DATASETS))


def datasets_of_epoch(wildcards):
    return list(DATASETS) if schedule_of(wildcards) == "mixed" else [dataset_of_epoch(wildcards)]


def prepared(datasets, split):
    """Manifests and images of one split, as named inputs."""
    return {
        "tables": expand(f"{DATA}/{split}.parquet", dataset=datasets),
        "images": expand(f"{DATA}/{split}.npy", dataset=datasets),
    }


def features_of(dataset):
    """The features of a dataset in the job's epoch; None stands for the one being trained on."""

    def path(wildcards):
        trained = dataset_of_epoch(wildcards)
        if TASK_OF[trained] == wildcards.get("task"):
            raise WorkflowError(
                f"Epoch {wildcards.epoch} trains on '{trained}', which has labels for '{wildcards.task}': "
                f"there is nothing to weigh. Ask for {augmented_tasks(int(wildcards.epoch), TASK_OF)}."
            )
        name = dataset or trained
        return f"{EPOCH.format(**wildcards)}/features/{name}.parquet"

    return path


def labeled_features(wildcards):
    return features_of(DATASET_OF[wildcards.task])(wildcards)


def wanted_tasks(dataset, wildcards):
    """Tasks whose features are needed of a dataset: its own, or where it is trained on all others."""
    if dataset in datasets_of_epoch(wildcards):
        return ",".join(task for task in DATASET_OF if task != TASK_OF[dataset])
    return TASK_OF[dataset]


def selection_tables(wildcards):
    """The tables that the criteria of a method are computed from."""
    row = METHODS[wildcards.method]
    criteria = row["selection"] if isinstance(row["selection"], list) else []
    folder = TASK.format(**wildcards)
    tables = {}
    if "refinement" in row:
        tables["refinement"] = f"{folder}/refinement.parquet"
    if "density" in criteria:
        tables["density"] = f"{folder}/density.parquet"
    if "distribution" in criteria:
        tables["responsibilities"] = f"{folder}/responsibilities.parquet"
        distances = "discrepancy" if row.get("distance") == "mmd" else "transport"
        tables[distances] = f"{folder}/{distances}.parquet"
    return tables


def selection_options(wildcards):
    return " ".join(f"--{name} {path}" for name, path in selection_tables(wildcards).items())


def label_setting(name):
    """A setting of the labels: the method's own, or the config's."""
    return lambda wildcards: METHODS[wildcards.method].get(name, config["labels"][name])


def interpolation_of(wildcards):
    """How a method uses w: a threshold has no meaning where w is constant."""
    ranked = isinstance(METHODS[wildcards.method]["selection"], list)
    return label_setting("interpolation")(wildcards) if ranked else "soft"


def quantile_of(wildcards):
    """The quantile of threshold selection; 0 where it is not used, so that changing it redoes nothing."""
    return label_setting("quantile")(wildcards) if interpolation_of(wildcards) == "threshold" else 0


def method_setting(*keys, default):
    """A setting of the method, or what holds where it has none."""

    def value(wildcards):
        row = METHODS[wildcards.method]
        for key in keys:
            row = row.get(key, {})
        return default if row == {} else row

    return value


def epoch_labels(wildcards):
    """The materialized labels of an epoch: task and path of each table."""
    folder = EPOCH.format(**wildcards)
    row = METHODS[wildcards.method]
    if row["schedule"] == "alternating":
        tasks = augmented_tasks(int(wildcards.epoch), TASK_OF)
        return [(task, f"{folder}/{task}/labels.parquet") for task in tasks]
    if "label_transfer" in row and int(wildcards.epoch) > row["label_transfer"]["warmup"]:
        return [
            (task, f"{folder}/{task}/{dataset}/labels.parquet")
            for dataset in DATASETS
            for task in DATASET_OF
            if task != TASK_OF[dataset]
        ]
    return []


def label_tables(wildcards):
    return [path for _, path in epoch_labels(wildcards)]


def label_options(wildcards):
    return [f"{task}={path}" for task, path in epoch_labels(wildcards)]


def all_epochs(pattern):
    """Paths of a file in the joint training and in every epoch of a run."""

    def paths(wildcards):
        return [f"{initial_folder(wildcards)}/{pattern}"] + [
            f"{EPOCH}/{pattern}".format(seed=wildcards.seed, method=wildcards.method, epoch=f"{epoch:03d}")
            for epoch in range(1, LAST_EPOCH + 1)
        ]

    return paths


def last_network(wildcards):
    return f"{EPOCH}/network.safetensors".format(epoch=f"{LAST_EPOCH:03d}", **wildcards)


def has_audit(dataset, task):
    """Whether a dataset knows labels of a task that it does not train on."""
    settings = DATASETS[dataset]
    if settings["source"] == "synthetic_faces":
        return task in ("expression", "pose")
    return task in settings.get("columns", {}).get("audit", {})


def audit_tables(methods, seeds):
    """The audits of all epochs and tasks for which labels were held back."""
    return [
        f"{TASK}/audit.parquet".format(seed=seed, method=method, epoch=f"{epoch:03d}", task=task)
        for seed in seeds
        for method in methods
        if METHODS[method]["schedule"] == "alternating"
        for epoch in range(1, LAST_EPOCH + 1)
        for task in augmented_tasks(epoch, TASK_OF)
        if has_audit(trained_dataset(epoch, list(DATASETS)), task)
    ]


def label_digest(wildcards):
    """Hash of a dataset's label files: another content redoes its images, another place does not."""
    from stages.sources.registry import list_label_files
    from stages.storage.files import digest_file

    files = list_label_files(DATASETS[wildcards.dataset], config["data_root"])
    return [digest_file(file) for file in files]


def card_settings():
    """The settings that a network depends on, for its model card; where files lie is none of its business."""
    sections = ("experiment", "seeds", "images", "network", "training", "features", "density", "mixture", "transport")
    settings = {name: config[name] for name in (*sections, "labels")}
    settings["datasets"] = {
        name: {key: value for key, value in dataset.items() if key not in ("path", "images")}
        for name, dataset in DATASETS.items()
    }
    if is_file(config["network"]["pretrained"]):
        settings["network"] = config["network"] | {"pretrained": Path(config["network"]["pretrained"]).name}
    return settings


def exports(*, existing):
    """The exports of all runs of the experiment, or those of them that were made before."""
    names = ("network.onnx", "model_card.md")
    paths = expand(f"{METHOD_RUN}/{{name}}", seed=SEEDS, method=config["methods"], name=names)
    return [path for path in paths if Path(path).exists()] if existing else paths


def card_metrics(wildcards):
    """The metrics of all seeds of a method: the experiment's, and the card's own."""
    seeds = sorted({*SEEDS, int(wildcards.seed)})
    return {seed: f"{METHOD_RUN}/metrics.parquet".format(seed=seed, method=wildcards.method) for seed in seeds}


def pretrained_file(wildcards):
    """The local file of pretrained weights, where there is one."""
    name = config["network"]["pretrained"]
    return [name] if is_file(name) else []


def run_check():
    """Stop a run before its first job where its data, its settings or the disk will not do."""
    names, seeds = config["methods"], SEEDS
    if any(Path(target).stem in ("comparison", "timing") for target in workflow.dag_settings.targets):
        names, seeds = config["comparison"]["methods"], config["comparison"]["seeds"]
    methods = [METHODS[name] for name in names]
    command = [sys.executable, "-m", "stages.check_experiment", "--settings", "-", "--results", RESULTS]
    done = subprocess.run(
        [*command, "--methods", json.dumps(methods), "--n-seeds", str(len(seeds))],
        input=json.dumps(config),
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BASE)},
    )
    if done.returncode:
        raise WorkflowError("The experiment cannot run; the line above says why. Nothing was written.")


def start_servers():
    """Start what jobs on this machine are forked from; see stages/warm_start.py."""
    deployed = workflow.deployment_settings.deployment_method
    # After loading some of its system libraries, macOS lets no process fork.
    if not config["compute"]["warm_start"] or deployed or not workflow.local_exec or sys.platform != "linux":
        return
    folder = tempfile.mkdtemp(prefix="stages-")
    if len(folder) > 90:
        os.rmdir(folder)
        return
    for kind in ("network", "statistics"):
        server = subprocess.Popen(
            [sys.executable, "-m", "stages.warm_start", folder, kind],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(BASE)},
        )
        # A server ends with its standard input, whichever way Snakemake ends.
        atexit.register(server.communicate)
    os.environ.update(STAGE_SERVERS=folder)

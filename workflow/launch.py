"""What Snakemake's own process does before the first job: settings, the check, the servers.

Nothing here imports a library that Snakemake does not bring itself, so that any Snakemake can plan.
"""

import atexit
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import yaml
from snakemake.exceptions import WorkflowError

from stages.command.warm_start import INTERRUPTS, KINDS, make_server_folder
from stages.core.task_labels import list_labels
from stages.core.weight_names import is_file
from stages.data.sources.registry import read_dataset
from stages.settings.checks import find_paths, load_experiment
from stages.settings.errors import SettingsError
from stages.storage.files import replace_when_complete
from workflow.ending import end_early
from workflow.identity import Code, FileCache, Libraries
from workflow.plan import Contents, Plan, needs_contents


def load_settings(
    config: Mapping[str, Any], files: Sequence[Path], overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The experiment's settings and the methods, checked, defaults filled in, paths from the current folder.

    Args:
        config: what Snakemake made of all config files and `--config`.
        files: the config files, the last counts most.
        overrides: what `--config` sets.

    Raises:
        SettingsError: a setting is wrong, or the file of pretrained weights does not exist.
    """
    source = ", ".join(map(str, files))
    settings, methods = load_experiment(files, config, source)
    contents = {file: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}

    # A path starts from the config file that sets it, or from here if --config does.
    for section, keys in find_paths(settings):
        if not _sets(overrides, keys):
            setting = [file for file, content in contents.items() if _sets(content, keys)] or list(files)
            place = setting[-1].parent.resolve() / section[keys[-1]]
            inside = place.resolve().is_relative_to(Path.cwd())
            section[keys[-1]] = os.path.relpath(place) if inside else str(place)
    path = settings["network"]["pretrained"]
    # Snakemake takes what was made from a missing file to be up to date.
    if is_file(path) and not Path(path).is_file():
        raise SettingsError(f"{source}: network.pretrained: '{path}' does not exist; correct it or get the file")
    return settings, methods


def read_contents(settings: Mapping[str, Any], code: Code, files: FileCache) -> dict[str, Contents]:
    """What is in the datasets on which the plan depends; of a table that has not changed it is remembered.

    Args:
        settings: of the experiment.
        code: that reads them.
        files: where it is remembered.

    Raises:
        UserError: a dataset cannot be read; the message names it.
    """
    found = {}
    for name, dataset in settings["datasets"].items():
        if needs_contents(settings, name):
            table = Path(settings["data_root"]) / dataset.get("path", "")
            reader = code.digest("data.prepare_images", f"stages.data.sources.{dataset['source']}.read")
            key = json.dumps([reader, settings["images"]["on_error"], dataset], sort_keys=True)
            known = files.find(table) if table.is_file() else None
            if known is None or known[0] != key:
                known = [key, count_train(settings, name)]
                if table.is_file():
                    files.keep(table, known)
            found[name] = Contents(**known[1])
    return found


def count_train(settings: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """The training samples of a dataset, and by task how many of them lack a label.

    Raises:
        UserError: it cannot be read; the message names it.
    """
    train = [one for one in read_dataset(settings, dataset).samples if one.split == "train"]
    tasks = list_labels(settings["datasets"][dataset])
    return {"n_train": len(train), "lacking": {task: sum(not one.labels[task] for one in train) for task in tasks}}


def begin_run(workflow: Any, plan: Plan, libraries: Libraries, base: Path) -> None:
    """Check what is about to run, leave its plan beside the results and start what jobs are forked from.

    Raises:
        WorkflowError: its data, its settings or the disk will not do.
    """
    names, seeds = plan.settings["methods"], plan.settings["seeds"]
    if any(Path(target).stem in ("comparison", "timing") for target in workflow.dag_settings.targets):
        names, seeds = plan.compared_methods, plan.compared_seeds
    methods = [plan.methods[name] for name in names]
    servers: set[int] = set()
    if workflow.local_exec:
        end_early(servers)
    if not check(plan.settings, methods, len(seeds), plan.layout["results"], base):
        raise WorkflowError("The experiment cannot run; the line above says why. Nothing was written.")
    write_plan(libraries, plan, workflow, base)
    if not workflow.local_exec and plan.settings["compute"]["device"] == "auto":
        print("compute.device: auto looks at this machine; say cuda or cpu for those that jobs run on", file=sys.stderr)
    if plan.settings["compute"]["warm_start"] and workflow.local_exec:
        rules = {job.rule.name for job in workflow.dag.needrun_jobs()}
        start_servers(base, servers, {kind for stage, kind in KINDS.items() if stage in rules})


def check(settings: Mapping[str, Any], methods: Sequence[Mapping], n_seeds: int, results: str, base: Path) -> bool:
    """Whether data, settings and disk will do for a run; what will not is said on standard error."""
    command = [sys.executable, "-m", "stages.tools.check_experiment", "--settings", "-", "--results", results]
    done = subprocess.run(
        [*command, "--methods", json.dumps(methods), "--n-seeds", str(n_seeds)],
        input=json.dumps(settings),
        text=True,
        check=False,
        env=extend_search_path(base),
    )
    return done.returncode == 0


def write_plan(libraries: Libraries, plan: Plan, workflow: Any, base: Path) -> None:
    """Leave beside the results what a finished run holds and the command that makes it, for `verify`."""
    settings = workflow.config_settings
    snakefile = [] if base == Path.cwd() else ["--snakefile", os.path.relpath(base / "Snakefile")]
    files = [os.path.relpath(file) for file in settings.configfiles]
    changes = [f"{key}={json.dumps(value)}" for key, value in settings.config.items()]
    command = ["snakemake", *snakefile, "--cores", "all"]
    command += ["--configfile", *files] if files else []
    command += ["--config", *changes] if changes else []
    content = {
        "command": shlex.join(command),
        "results": plan.layout["results"],
        "libraries": libraries.counted,
        "artifacts": [[*astuple(artifact), artifact.job] for artifact in plan.artifacts()],
    }
    with replace_when_complete(libraries.path) as path_temporary:
        path_temporary.write_text(json.dumps(content, indent=0), encoding="utf-8")


def start_servers(base: Path, servers: set[int], kinds: Collection[str]) -> None:
    """Start what jobs on this machine are forked from, where that is possible; see stages/command/warm_start.py.

    Args:
        base: folder of the Snakefile.
        servers: takes their processes.
        kinds: what is to be started, of those in `stages.command.warm_start.LIBRARIES`.
    """
    # After loading some of its system libraries, macOS lets no process fork.
    if sys.platform != "linux" or not kinds:
        return
    try:
        folder = make_server_folder()
    except OSError:
        return
    if len(folder) > 90:
        os.rmdir(folder)
        return
    # Where a server was killed, its socket is still there. What is registered first is called last.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Servers inherit that: until they ignore interrupts, which are for Snakemake, these wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        for kind in sorted(kinds):
            server = start_server(folder, kind, env=extend_search_path(base))
            servers.add(server.pid)
            # A server ends with its standard input, whichever way Snakemake ends.
            atexit.register(server.communicate)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.environ.update(STAGE_SERVERS=folder)


def start_server(folder: str, kind: str, **options: Any) -> subprocess.Popen:
    """Start what jobs of a kind are forked from; it ends with its standard input.

    Args:
        folder: takes its socket.
        kind: one of `stages.command.warm_start.LIBRARIES`.
        options: more for `subprocess.Popen`.
    """
    # Listens before the server runs, so that jobs which come early wait for it.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(folder, kind))
        listener.listen(128)
        return subprocess.Popen(
            [sys.executable, "-m", "stages.command.warm_start", folder, kind, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            **options,
        )


def extend_search_path(base: Path) -> dict[str, str]:
    """The environment, in which Python also finds the stages."""
    paths = [str(base), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _sets(settings: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings is not None

"""Whether a results folder holds what its run must leave, whole and current, and what heals it."""

import json
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.storage.contracts import Contract, find_contract
from stages.storage.files import digest_file, read_json
from stages.storage.provenance import list_versions
from stages.storage.reports import read_identity
from stages.storage.seals import check_seal, find_footer
from stages.storage.tables import read_any, read_table

PLAN = "plan.json"
FOLDERS = {"export_explorer": "explorer.json"}
"""Rules whose artifact is a folder, and the file in it that records all others."""
SEALED = (".parquet", ".json", ".md")
MAX_LISTED = 3


@dataclass(frozen=True)
class Expected:
    """An artifact of the plan: see `workflow.plan.Artifact`; paths start from the results folder."""

    path: str
    rule: str
    target: str
    disposable: bool
    job: str


@dataclass(frozen=True)
class Plan:
    """What a finished run holds.

    Attributes:
        command: that makes it, in the folder where Snakemake runs.
        results: the results folder from there.
        artifacts: by path.
    """

    command: str
    results: str
    artifacts: Mapping[str, Expected]


@dataclass
class Findings:
    """What is wrong with a results folder; paths start from it.

    Attributes:
        n_artifacts: that were looked at.
        gone: disposable artifacts that are no longer there.
        damaged: reason by path.
        missing: paths.
        outdated: path of an input, or another reason, by path.
        left_over: files that the plan does not know.
        versions: how many artifacts were made with a version of a library that is not installed.
        users: artifacts that name a file among their inputs, by its path.
    """

    n_artifacts: int = 0
    gone: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    outdated: dict[str, str] = field(default_factory=dict)
    left_over: list[str] = field(default_factory=list)
    versions: Counter = field(default_factory=Counter)
    users: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def n_problems(self) -> int:
        """Artifacts that are not what they should be."""
        return len(self.damaged) + len(self.missing) + len(self.outdated)


def read_plan(results: Path) -> Plan:
    """The plan that the last run has left.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    path = results / PLAN
    if not path.is_file():
        raise UserError(
            f"{results}: holds no {PLAN}, so that nobody knows what should be there; name the folder of an "
            "experiment (results/<experiment>), or run snakemake for it first"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        prefix = content["results"] + "/"
        rows = [Expected(row[0].removeprefix(prefix), *row[1:]) for row in content["artifacts"]]
        return Plan(content["command"], content["results"], {row.path: row for row in rows})
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is damaged; run snakemake, which writes it anew") from None


def examine(results: Path, plan: Plan, show: Callable[[Iterable], Iterable] = iter) -> Findings:
    """Look at every file of a results folder.

    Args:
        results: the folder.
        plan: what it should hold.
        show: wraps what is looked at, for a progress bar.
    """
    findings = Findings()
    present = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()} - {PLAN}
    present = {path for path in present if not Path(path).name.startswith(".")}
    folders = {path: FOLDERS[one.rule] for path, one in plan.artifacts.items() if one.rule in FOLDERS}
    inside = {path: {file for file in present if file.startswith(f"{path}/")} for path in folders}
    present = present.difference(*inside.values()) | {path for path, files in inside.items() if files}
    findings.left_over = sorted(present - set(plan.artifacts))
    wanted = _choose_targets(plan, present)
    for path, artifact in plan.artifacts.items():
        if path not in present and wanted(artifact):
            (findings.gone if artifact.disposable else findings.missing).append(path)
    present &= set(plan.artifacts)
    findings.n_artifacts = len(present)
    recorded = {path: _examine_sealed(results, path, findings) for path in show(sorted(filter(_is_sealed, present)))}
    for path in present & set(folders):
        recorded[path] = _examine_folder(results, path, folders[path], inside[path], findings)
    present -= set(folders)
    files = {name: digest for one in recorded.values() for name, digest in one.get("files", {}).items()}
    digests: dict[str, str] = {}
    for path in show(sorted(present)):
        digests[path] = digest_file(results / path)
        if not _is_sealed(path) and path in files and files[path] != digests[path]:
            findings.damaged[path] = "is damaged (it is not the file that was recorded)"
    for path, one in recorded.items():
        for source, digest in one.get("inputs", {}).items():
            findings.users[source].append(path)
            # What is damaged or missing may come back as it was.
            if source in digests and source not in findings.damaged and digests[source] != digest:
                findings.outdated.setdefault(path, f"was made from another {source}")
    return findings


def _is_sealed(path: str) -> bool:
    return path.endswith(SEALED)


def _choose_targets(plan: Plan, present: set[str]) -> Callable[[Expected], bool]:
    """Which artifacts must be there: those of the run, and of a comparison, report or export of which something is."""
    finals = [artifact for path, artifact in plan.artifacts.items() if path in present]
    compared = any(artifact.rule in ("compare_methods", "sum_benchmarks") for artifact in finals)
    drawn = {artifact.rule for artifact in finals if artifact.target == "report"}
    exported = {os.path.dirname(artifact.path) for artifact in finals if artifact.target == "export"}

    def wanted(artifact: Expected) -> bool:
        if artifact.target == "viewing":
            return False
        if artifact.target == "export":
            return os.path.dirname(artifact.path) in exported
        if artifact.target == "report":
            # A report may be older than a comparison.
            return bool(drawn) and (artifact.rule != "draw_comparison" or artifact.rule in drawn)
        return artifact.target == "all" or compared

    return wanted


def _examine_folder(results: Path, path: str, record: str, present: set[str], findings: Findings) -> dict[str, Any]:
    """What a folder's record says of its inputs; the folder is an artifact as a whole."""
    found = Findings()
    one = _examine_sealed(results, f"{path}/{record}", found) if f"{path}/{record}" in present else {}
    findings.versions += found.versions
    files = one.get("files", {})
    wrong = sorted(
        (present - {f"{path}/{record}"}) ^ set(files)
        | {name for name in present & set(files) if digest_file(results / name) != files[name]}
    )
    if not one or wrong:
        findings.damaged[path] = (
            f"is damaged ({wrong[0] if one else f'{path}/{record}'} is not the file that was recorded)"
        )
        return {}
    return {"inputs": one["inputs"]}


def _examine_sealed(results: Path, path: str, findings: Findings) -> dict[str, dict[str, str]]:
    """What a table or JSON file says of its inputs and of the files beside it, by paths from the results folder."""
    try:
        content = _read_whole(results / path)
    except ValueError as error:
        reason = str(error).removeprefix(f"{results / path}: ").split("; delete it")[0]
        findings.damaged[path] = reason
        return {}
    if "/" in content["path"] and not content["path"].endswith(f"/{path}"):
        findings.damaged[path] = f"is that of another place ({content['path']})"
        return {}
    for name, version in content["versions"].items():
        if not _is_installed(name, version):
            findings.versions[f"{name} {version}" if not version.startswith(name) else version] += 1
    folder = os.path.dirname(path)
    files = dict(content.get("files", {}))
    if "images_digest" in content:
        files[f"{Path(path).stem}.npy"] = content["images_digest"]
    return {
        "inputs": {os.path.normpath(os.path.join(folder, name)): digest for name, digest in content["inputs"].items()},
        "files": {os.path.normpath(os.path.join(folder, name)): digest for name, digest in files.items()},
    }


@cache
def _is_installed(name: str, version: str) -> bool:
    return list_versions((name,)).get(name) == version


def _read_whole(path: Path) -> dict[str, Any]:
    """What an artifact says of itself, once all of it is checked."""
    check_seal(path, find_footer(path) if path.suffix == ".parquet" else 0)
    if path.suffix == ".md":
        content = read_identity(path)
        find_contract(content)
        return content
    content = read_any(path)
    contract = find_contract(content)
    if isinstance(contract, Contract):
        read_table(path, contract)
    else:
        read_json(path, contract)
    return content


def describe_problems(findings: Findings) -> list[str]:
    """A line for every artifact that is not what it should be: path and what is wrong."""

    def name_users(path: str) -> str:
        users = findings.users.get(path, [])
        return f"; made from it: {list_few(users)}" if users else ""

    return [
        *(f"{path}: {reason}{name_users(path)}" for path, reason in findings.damaged.items()),
        *(f"{path}: is missing{name_users(path)}" for path in findings.missing),
        *(f"{path}: {reason}{name_users(path)}" for path, reason in findings.outdated.items()),
    ]


def list_few(paths: list[str]) -> str:
    """The first paths, and how many more there are."""
    more = len(paths) - MAX_LISTED
    return ", ".join(paths[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def write_commands(results: Path, plan: Plan, findings: Findings) -> dict[str, str]:
    """The commands that heal what was found, by what they do, for the folder where Snakemake runs."""
    commands = {}
    broken = [*findings.damaged, *findings.missing]
    if broken:
        commands["make them anew, to the same bits"] = _heal(results, plan, findings, broken)
    elif findings.outdated:
        paths = _join(plan, findings.outdated)
        again = f"{plan.command} -- {paths}"
        commands["make anew what is out of date and what follows"] = (
            f"{_remove(plan, findings.outdated)} && {again} && {plan.command}"
        )
    if findings.left_over:
        commands["delete what another configuration left"] = (
            f"rm -r {_join(plan, _find_roots(results, plan, findings))}"
        )
    return commands


def _heal(results: Path, plan: Plan, findings: Findings, broken: list[str]) -> str:
    """Make files anew and give them a time before that of what was made from them, which may then stay."""
    jobs = defaultdict(list)
    for artifact in plan.artifacts.values():
        jobs[artifact.job].append(artifact.path)
    steps = [f"{plan.command} -- {_join(plan, broken)}"]
    if findings.damaged:
        steps.insert(0, _remove(plan, findings.damaged))
    for job in dict.fromkeys(plan.artifacts[path].job for path in broken):
        users = {user for path in jobs[job] for user in findings.users.get(path, [])} - set(broken) - set(jobs[job])
        if users:
            oldest = min(users, key=lambda user: (results / user).stat().st_mtime_ns)
            steps.append(f"touch -c -r {_join(plan, [oldest])} {_join(plan, jobs[job])}")
    return " && ".join(steps)


def _find_roots(results: Path, plan: Plan, findings: Findings) -> list[str]:
    """The highest folders that hold nothing but what is left over, and single files elsewhere."""
    known = {parent.as_posix() for path in plan.artifacts for parent in Path(path).parents}
    roots = []
    for path in findings.left_over:
        above = [parent.as_posix() for parent in reversed(Path(path).parents)]
        root = next((parent for parent in above if parent not in known), path)
        if root not in roots:
            roots.append(root)
    return roots


def _remove(plan: Plan, paths: Iterable[str]) -> str:
    paths = list(paths)
    folders = any(plan.artifacts[path].rule in FOLDERS for path in paths)
    return f"rm {'-rf' if folders else '-f'} {_join(plan, paths)}"


def _join(plan: Plan, paths: Iterable[str]) -> str:
    return shlex.join(f"{plan.results}/{path}" for path in paths)

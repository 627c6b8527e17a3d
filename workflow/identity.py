"""What a job's result depends on beside its inputs and settings: the code that decides it, files' contents.

Snakemake sees neither an edited module behind `python -m` nor the content of a label table. The rules
pass both as params: digests of the code that a stage really uses, without comments, docstrings and
messages, and digests of files that do not change with the place where they lie.
"""

import ast
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = {
    "PIL": ("pillow",),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs"),
    "numpy": ("numpy",),
    "ot": ("pot",),
    "pyarrow": ("pyarrow",),
    "scipy": ("scipy",),
    "sklearn": ("scikit-learn",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
}
"""The libraries that decide results: the distributions that may bring each, by the name of its import."""
MESSAGE_MODULES = {"stages.core.suggestions"}
MESSAGE_CALLS = {"print", "warning", "info", "error"}
SCOPES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
"""What names its own variables."""
MESSAGE_OPTIONS = {"help", "metavar", "description", "example"}


@dataclass
class Module:
    """A module of the project as its users depend on it.

    Attributes:
        definitions: digest of what makes up every top-level name, without comments and messages.
        uses: the names that each of them mentions, those of attributes of modules as `module.name`.
        imports: module and name behind every imported name; no name where it is a module itself.
        always: names under which statements stand that run whenever the module is imported.
    """

    definitions: dict[str, str] = field(default_factory=dict)
    uses: dict[str, list[str]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    always: list[str] = field(default_factory=list)


class Code:
    """The project's modules.

    Args:
        base: folder of the checkout.
        path_cache: where what was read of a module is kept until the module changes; None keeps nothing.
    """

    def __init__(self, base: Path, path_cache: Path | None = None) -> None:
        self._base = base
        self._cache = FileCache(path_cache) if path_cache else None
        self._modules: dict[str, Module | None] = {}

    def digest(self, stage: str, *entries: str) -> str:
        """Digest of all code that the `main` of a stage uses.

        Args:
            stage: module below `stages`, such as `epoch.estimate_density`.
            entries: further functions that it finds by name only, such as `stages.data.sources.expw.read`.
        """
        digest = hashlib.sha256()
        for module, name in sorted(self._collect(stage, entries)):
            digest.update(f"{module} {name} {self._load(module).definitions[name]}\n".encode())
        return digest.hexdigest()[:16]

    def libraries(self, stage: str, *entries: str) -> dict[str, str]:
        """The installed versions of the libraries that this code uses, by name."""
        used = {name.split(".")[0] for name in self._external(self._collect(stage, entries))}
        return {name: found for name in sorted(used & set(LIBRARIES)) if (found := find_version(name))}

    def save(self) -> None:
        """Keep what was read."""
        if self._cache:
            self._cache.save()

    def _collect(self, stage: str, entries: Iterable[str]) -> set[tuple[str, str]]:
        pending = [(f"stages.{stage}", "main"), *(tuple(entry.rsplit(".", 1)) for entry in entries)]
        found: set[tuple[str, str]] = set()
        while pending:
            place = pending.pop()
            module = self._load(place[0])
            if place in found or module is None:
                continue
            if place[1] in module.imports and place[1] not in module.definitions:
                pending += self._follow(*module.imports[place[1]])
                continue
            if place[1] not in module.definitions:
                continue
            found.add(place)
            pending += [(place[0], name) for name in module.always]
            for name in module.uses[place[1]]:
                pending += self._resolve(place[0], module, name)
        return found

    def _resolve(self, path: str, module: Module, name: str) -> Iterator[tuple[str, str]]:
        first, _, rest = name.partition(".")
        if first in module.definitions:
            yield path, first
        elif first in module.imports:
            target, attribute = module.imports[first]
            if attribute and self._load(f"{target}.{attribute}"):
                target, attribute = f"{target}.{attribute}", None
            yield from self._follow(target, attribute or rest or None)

    def _follow(self, target: str, attribute: str | None) -> Iterator[tuple[str, str]]:
        if module := self._load(target):
            for name in [attribute] if attribute else module.definitions:
                yield target, name

    def _external(self, places: Iterable[tuple[str, str]]) -> Iterator[str]:
        for path, name in places:
            module = self._load(path)
            for used in module.uses[name]:
                target = module.imports.get(used.split(".")[0])
                if target and not target[0].startswith("stages"):
                    yield target[0]

    def _load(self, name: str) -> Module | None:
        if name in MESSAGE_MODULES:
            return None
        if name not in self._modules:
            path = self._base / f"{name.replace('.', '/')}.py"
            known = self._cache.find(path) if self._cache else None
            if known is None and name.startswith("stages.") and path.is_file():
                known = vars(read_module(path.read_text(encoding="utf-8")))
                if self._cache:
                    self._cache.keep(path, known)
            self._modules[name] = Module(**known) if known else None
        return self._modules[name]


def read_module(source: str) -> Module:
    """Take a module apart into what its names mean and use."""
    module = Module()
    for statement in ast.parse(source).body:
        statement = _Stripper().visit(statement)
        if statement is None or _is_main_guard(statement):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and node.module:
                module.imports |= {(one.asname or one.name): (node.module, one.name) for one in node.names}
            elif isinstance(node, ast.Import):
                for one in node.names:
                    name = one.asname or one.name.split(".")[0]
                    module.imports[name] = (one.name if one.asname else name, None)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        names = list(_find_bound(statement))
        if not names:
            names = [f"statement {len(module.always)}"]
            module.always += names
        content, uses = _describe(statement), set(_find_used(statement))
        for name in names:
            known = module.definitions.get(name, "")
            module.definitions[name] = hashlib.sha256(f"{known}{content}".encode()).hexdigest()
            module.uses[name] = sorted({*module.uses.get(name, []), *uses})
    return module


class _Stripper(ast.NodeTransformer):
    """Leaves out what decides no result: docstrings, messages, what an option says of itself."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        if isinstance(node.value, ast.Call):
            called = node.value.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            if name in MESSAGE_CALLS:
                return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in MESSAGE_OPTIONS]
        return self.generic_visit(node)


def _describe(node: Any) -> str:
    """As `ast.dump`, whose form differs between versions of Python."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name not in ("ctx", "type_comment"))
        listed = ",".join(f"{name}={_describe(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({listed})"
    if isinstance(node, list):
        return f"[{','.join(map(_describe, node))}]"
    return repr(node)


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__main__" in _describe(statement.test)


def _find_bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield statement.name
        return
    inner = {id(inside) for node in ast.walk(statement) if isinstance(node, SCOPES) for inside in ast.walk(node)}
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inner:
            yield node.id


def _find_used(statement: ast.stmt) -> Iterator[str]:
    owners = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owners.add(node.value)
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in owners:
            yield node.id


@cache
def find_version(library: str) -> str | None:
    """The installed version of one of `LIBRARIES`; None where it is not installed. Nothing is imported."""
    for distribution in LIBRARIES[library]:
        with contextlib.suppress(PackageNotFoundError):
            return f"{distribution} {version(distribution)}"
    return None


class Libraries:
    """The versions of libraries that an experiment's results count as made with.

    Those of its first run, until `compute.redo_on_upgrade` takes the installed ones: nobody wants days
    of training redone for a patch release. Every artifact records those that it was really made with.

    Args:
        path: of the plan that the last run has left.
        redo: whether the installed versions count.
    """

    def __init__(self, path: str, *, redo: bool) -> None:
        self.path = Path(path)
        self.installed = {name: found for name in LIBRARIES if (found := find_version(name))}
        try:
            recorded = json.loads(self.path.read_text(encoding="utf-8"))["libraries"]
        except (OSError, ValueError, KeyError, TypeError):
            recorded = {}
        self.counted = self.installed | ({} if redo else recorded)

    def pick(self, used: Mapping[str, str]) -> list[str]:
        """The versions that count of the libraries in use."""
        return [self.counted[name] for name in used]

    def say_what_differs(self) -> None:
        """Tell people in one line what was made with other versions."""
        differing = [
            f"{version} (now {self.installed.get(name, 'missing')})"
            for name, version in self.counted.items()
            if version != self.installed.get(name)
        ]
        if differing:
            print(
                f"{self.path.parent}: begun with {', '.join(differing)}; what is there stays, "
                "compute.redo_on_upgrade: true makes it anew",
                file=sys.stderr,
            )


class FileCache:
    """What was found out about files, by path, as long as size, time of change and inode are the same.

    It may be lost at any time, and where it cannot be written it is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        try:
            self._entries = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._entries = {}

    def find(self, path: Path) -> Any:
        """What was kept of a file that has not changed; None else."""
        state, value = self._entries.get(str(path), (None, None))
        return value if state is not None and state == _stat(path) else None

    def keep(self, path: Path, value: Any) -> None:
        """Remember something of a file as it is now."""
        self._entries[str(path)] = (_stat(path), value)
        self._changed = True

    def save(self) -> None:
        """Write what was kept, whole or not at all."""
        if not self._changed:
            return
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._entries), encoding="utf-8")
            temporary.replace(self._path)
        self._changed = False


def _stat(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def digest_contents(paths: Iterable[Path], files: FileCache) -> list[str]:
    """SHA-256 of files' contents, in order; read again only where they changed."""
    digests = []
    for path in paths:
        path = path.absolute()
        if (known := files.find(path)) is None:
            with path.open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
            files.keep(path, known)
        digests.append(known)
    return digests


def find_device(setting: str, environment: Mapping[str, str]) -> str:
    """The kind of device that `compute.device` stands for on this machine, without importing torch."""
    if setting != "auto":
        return setting
    hidden = environment.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return "cuda" if not hidden and Path("/proc/driver/nvidia/gpus").is_dir() else "cpu"

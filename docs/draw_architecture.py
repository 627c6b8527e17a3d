"""Draw who imports whom into docs/architecture.md: `python -m docs.draw_architecture`."""

import ast
import re
from collections import Counter
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
MARKS = "<!-- imports: written by python -m docs.draw_architecture -->\n", "<!-- end of the imports -->\n"
BOXES = {
    "rules": "Snakefile, workflow/rules",
    "workflow": "workflow: plan, launch and others",
    **{name: name for name in ("epoch", "baselines", "data", "report", "tools", "data/sources")},
    **{name: name for name in ("command", "settings", "storage", "core")},
}
"""The folders from top to bottom, and what stands in their boxes."""


def main() -> None:
    """Write the picture between its marks."""
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def fill_page(text: str) -> str:
    """The page with the picture as the code wants it."""
    begin, end = MARKS
    before, rest = text.split(begin)
    return f"{before}{begin}\n{draw_imports()}\n{end}{rest.split(end)[1]}"


def draw_imports() -> str:
    """A Mermaid flowchart of the folders; an arrow's number counts the modules behind it in pairs."""
    folders = [(find_folder(importer), find_folder(imported)) for importer, imported in find_imports()]
    imports = Counter((importer, imported) for importer, imported in folders if importer != imported)
    lines = ["```mermaid", "flowchart TD"]
    for folder, label in BOXES.items():
        importers = [importer for importer, imported in imports if imported == folder]
        if len(importers) == len(BOXES) - 1:
            # One arrow from every box would hide all others.
            total = sum(imports.pop((importer, folder)) for importer in importers)
            label = f"{label}: imported by all others, {total}"
        lines.append(f'    {_name_node(folder)}["{label}"]')
    order = list(BOXES)
    for (importer, imported), n in sorted(imports.items(), key=lambda item: [order.index(name) for name in item[0]]):
        lines.append(f"    {_name_node(importer)} -->|{n}| {_name_node(imported)}")
    jobs = Counter(map(find_folder, find_jobs()))
    lines += [f"    rules -.->|runs {jobs[folder]}| {_name_node(folder)}" for folder in order if folder in jobs]
    return "\n".join([*lines, "```\n"])


def find_imports() -> list[tuple[str, str]]:
    """Importing and imported module of the project, each pair once, wherever in its module the import stands.

    Left out is `stages/__init__.py`, which hands a stage over to a warm process before it begins.
    """
    found = set()
    for path in [*ROOT.glob("stages/*/**/*.py"), *ROOT.glob("workflow/*.py")]:
        importer = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {(importer, one.name) for one in node.names}
            elif isinstance(node, ast.ImportFrom):
                module = resolve_name("." * node.level + (node.module or ""), importer.rpartition(".")[0])
                # What is imported from a package is a module of it.
                within = (ROOT / module.replace(".", "/")).is_dir()
                found |= {(importer, f"{module}.{one.name}" if within else module) for one in node.names}
    for path in _list_rules():
        modules = re.findall(r"^from (\S+) import", path.read_text(encoding="utf-8"), re.MULTILINE)
        found |= {(f"rules.{path.stem}", module) for module in modules}
    return sorted(pair for pair in found if pair[1].startswith(("stages.", "workflow.")))


def find_jobs() -> list[str]:
    """The modules that the rules run, one for each rule."""
    return [
        module
        for path in _list_rules()
        for module in re.findall(r"python -m (stages[\w.]+)", path.read_text(encoding="utf-8"))
    ]


def find_folder(module: str) -> str:
    """A module's folder as `BOXES` names it; one that it does not name belongs to the folder above."""
    first, *inner, _ = module.split(".")
    path = "/".join(inner) if first == "stages" else first
    return path if path in BOXES else path.rpartition("/")[0]


def _list_rules() -> list[Path]:
    return [ROOT / "Snakefile", *sorted(ROOT.glob("workflow/rules/*.smk"))]


def _name_node(folder: str) -> str:
    return folder.replace("/", "_")


if __name__ == "__main__":
    main()

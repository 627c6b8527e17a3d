"""What lies below knows nothing of what stands on it; docs/architecture.md shows who imports whom."""

import ast

import pytest

from docs.draw_architecture import PAGE, ROOT, fill_page, find_imports

MAY_IMPORT = {
    "stages.core": "core",
    "stages.storage": "storage core",
    # Of sources, settings know the register; sources know how settings are written down, not the experiment's.
    "stages.settings": "settings core data.sources.registry",
    "stages.data.sources": "data.sources settings.datasets settings.section storage core",
    "stages.command": "command settings storage core",
    "stages.command.console": "command settings storage core tools",
    "stages.epoch": "epoch command storage core",
    "stages.baselines": "baselines command storage core",
    "stages.data": "data command storage core",
    "stages.report": "report data.sources.registry command storage core",
    "stages.tools": "tools data.sources settings command storage core",
}


def belongs(module, package):
    return f"{module}.".startswith(f"{package}.")


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_folder_imports_only_what_lies_below_it(package):
    inner = [other for other in MAY_IMPORT if other != package and belongs(other, package)]
    strange = [
        f"{importer} imports {imported}"
        for importer, imported in find_imports()
        if belongs(importer, package)
        and not any(belongs(importer, other) for other in inner)
        and not any(belongs(imported, f"stages.{allowed}") for allowed in MAY_IMPORT[package].split())
    ]
    assert not strange


def test_every_module_lies_in_a_layer():
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("stages/*/**/*.py")}
    assert not [module for module in modules if not any(belongs(module, package) for package in MAY_IMPORT)]


def test_nobody_imports_a_stage():
    """What two stages share is a module without `main`; only the console, which runs them, may import them."""
    stages = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.glob("stages/*/**/*.py")
        if any(getattr(node, "name", None) == "main" for node in ast.parse(path.read_text(encoding="utf-8")).body)
    }
    assert {"stages.epoch.train_epoch", "stages.tools.score_images"} <= stages
    assert not [pair for pair in find_imports() if pair[1] in stages and pair[0] != "stages.command.console"]


def test_the_picture_shows_the_imports():
    text = PAGE.read_text(encoding="utf-8")
    assert fill_page(text) == text, "run python -m docs.draw_architecture"

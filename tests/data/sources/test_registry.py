import ast
import shutil
from pathlib import Path

import pytest

from stages.data.sources.registry import READERS, find_reader, list_readers
from workflow.identity import Code

ROOT = Path(__file__).parents[3]


def test_the_readers_are_the_modules_of_their_names():
    for name, reader in list_readers().items():
        assert reader.read.__module__ == reader.settings.__module__ == f"stages.data.sources.{name}"
        assert reader.read.__name__ == "read"


@pytest.mark.parametrize("name", ["ftp", "base", "table.nothing", None])
def test_what_is_no_reader_is_refused(name):
    with pytest.raises(ValueError, match=rf"unknown source '{name}'; set `source` to image_folder, table, .*, sfew"):
        find_reader(name)


class _OnlyWhatReads(ast.NodeTransformer):
    """Takes the `READER` out of a module, and the classes of settings."""

    def visit_Assign(self, node):
        return None if ast.unparse(node.targets[0]) in ("READER", "READERS") else node

    def visit_ClassDef(self, node):
        return None if any(ast.unparse(base).endswith(("Dataset", "Section")) for base in node.bases) else node


@pytest.mark.parametrize("name", READERS)
def test_images_are_identified_by_nothing_but_the_code_that_reads_them(tmp_path, name):
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    sources = tmp_path / "stages/data/sources"
    entry = f"stages.data.sources.{name}.read"
    before = Code(tmp_path).digest("data.prepare_images", entry)
    for path in (sources / f"{name}.py", sources / "registry.py"):
        path.write_text(ast.unparse(_OnlyWhatReads().visit(ast.parse(path.read_text(encoding="utf-8")))))
    for other in {*READERS, "reader"} - {name}:
        (sources / f"{other}.py").unlink()
    for folder in ("settings", "tools"):
        shutil.rmtree(tmp_path / "stages" / folder)
    assert Code(tmp_path).digest("data.prepare_images", entry) == before
    text = (sources / f"{name}.py").read_text(encoding="utf-8")
    assert "READER = " not in text
    assert "source: Literal" not in text
    (sources / f"{name}.py").write_text(text.replace("build_manifest(", "make_manifest("))
    assert Code(tmp_path).digest("data.prepare_images", entry) != before

"""What the docs name exists: files, modules, what is in them, and the places that links lead to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/**/*.md")])
FOLDERS = "stages|workflow|benchmarks|tests|docs|experiments"


def read_page(path):
    """A page without what has been released under older names."""
    text = path.read_text(encoding="utf-8")
    return text.split("\n## ", 2)[1] if path.name == "CHANGELOG.md" else text


def find_headings(text):
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def defines(path, name):
    pattern = rf"^(\s*def |class ){name}\b|^{name}( =|:)"
    return re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def exists_as_module(dotted):
    """Whether it is a package, a module or a name in a module."""
    place = ROOT / dotted.replace(".", "/")
    if place.is_dir() or place.with_suffix(".py").is_file():
        return True
    module = place.parent.with_suffix(".py")
    return module.is_file() and defines(module, place.name)


@pytest.fixture(params=PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def page(request):
    return request.param


def test_paths_exist(page):
    text = read_page(page)
    paths = re.findall(rf"(?<![\w./-])(?:{FOLDERS})/(?!NAME)[\w./-]*\w", text)
    # Of stages, `stages/` may be left out.
    paths += [path for path in re.findall(r"`([\w/]+/\w+\.py)`", text) if not re.match(rf"(?:{FOLDERS})/", path)]
    # What an example has its reader write.
    written = re.findall(r"^<!-- write: (\S+) -->$", text, re.MULTILINE)
    paths = [path for path in paths if path not in written]
    assert not [path for path in paths if not ((ROOT / path).exists() or (ROOT / "stages" / path).exists())]


def test_modules_and_what_is_in_them_exist(page):
    text = read_page(page)
    dotted = re.findall(r"(?<![\w./-])(?:stages|benchmarks|docs)(?:\.[a-z_]\w*)+(?!/)", text)
    assert not [name for name in dotted if not (ROOT / name).is_file() and not exists_as_module(name)]
    # As in `core/selection.py`: `weigh_samples`, `soften_labels`.
    for path, names in re.findall(r"`([\w/]+\.py)`:((?:(?:,| and)?\s`\w+`)+)", text):
        file = ROOT / path if (ROOT / path).exists() else ROOT / "stages" / path
        assert not [name for name in re.findall(r"\w+", names.replace(" and ", " ")) if not defines(file, name)], path


def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", read_page(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), target
        assert not anchor or anchor in find_headings(other.read_text(encoding="utf-8")), target

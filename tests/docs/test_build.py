"""The pages build without a warning, open from the disk, fetch nothing, and quote messages that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake

from docs.offline import draw_flowchart, draw_formula, read_flowchart
from stages.core.task_labels import list_labels
from stages.settings.checks import load_experiment, parse_yaml
from tests.docs.pages import ROOT, edit

pytest.importorskip("furo")
CHART = """\
flowchart TD
    a[(checkpoint)] --> b["what is, done"] --> c
    b -- "a label" --> d[other]
    c -.->|3| a
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return folder


def test_every_page_is_built_and_listed(built):
    index = (built / "index.html").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/*.md"):
        assert (built / f"{page.stem}.html").is_file()
        assert page.stem == "index" or f'href="{page.stem}.html"' in index


def test_pages_fetch_nothing(built):
    for page in built.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)="([^"]+)"', text)
        assert fetched, page.name
        assert not [address for address in fetched if re.match(r"(?:\w+:)?//", address)], page.name
        assert not re.search(r'url\(["\']?(?:\w+:)?//|@import', text), page.name
        missing = [address for address in fetched if not (built / address.split("?")[0].split("#")[0]).exists()]
        # What a browser needs nothing of: search and index pages are there, others by their own name.
        assert not missing, page.name


def test_links_between_pages_and_out_of_them_lead_somewhere(built):
    for page in built.glob("*.html"):
        for address in re.findall(r'<a [^>]*href="([^"#:]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8")):
            # Of the clone, three folders up from docs/_build/html.
            place = ROOT / address[9:] if address.startswith("../../../") else built / address
            assert place.exists(), (page.name, address)


def test_formulas_and_flowcharts_are_drawings(built):
    method = (built / "method.html").read_text(encoding="utf-8")
    assert method.count('class="formula"') > 20
    assert 'class="flowchart"' in method
    assert "$" not in re.sub(r"<(?:pre|code).*?</(?:pre|code)>|<script.*?</script>", "", method, flags=re.DOTALL)


def test_a_formula_is_a_path_beside_its_source():
    drawing = draw_formula(r"\frac{a}{b} < 1")
    assert r'aria-label="\frac{a}{b} &lt; 1"' in drawing
    assert 'd="M' in drawing
    with pytest.raises(ValueError, match="Unknown symbol"):
        draw_formula(r"\nosuchthing")


def test_a_flowchart_stands_below_what_points_at_it():
    boxes, arrows = read_flowchart(CHART)
    assert boxes["b"].lines == ["what is, done"]
    assert [(arrow.source, arrow.target, arrow.label, arrow.dotted) for arrow in arrows] == [
        ("a", "b", "", False), ("b", "c", "", False), ("b", "d", "a label", False), ("c", "a", "3", True)
    ]  # fmt: skip
    drawing = draw_flowchart(CHART)
    heights = {text: float(y) for y, text in re.findall(r'y="([\d.]+)">([^<]+)</text>(?=<|$)', drawing)}
    assert heights["checkpoint"] < heights["what is, done"] < heights["c"] == heights["other"]
    with pytest.raises(ValueError, match="not understood"):
        read_flowchart("flowchart TD\n    a ==> b")


def test_many_arrows_are_a_table():
    arrows = "\n".join(f"    a{row} -->|{row * column}| b{column}" for row in range(5) for column in range(5))
    table = draw_flowchart(f"flowchart TD\n{arrows}")
    assert re.search(r"<tr><th>a4</th>.*<td>16 </td></tr>", table)


def test_messages_in_the_docs_are_those_of_the_code():
    sources = [*ROOT.glob("stages/**/*.py"), *ROOT.glob("workflow/*.py"), *Path(snakemake.__file__).parent.glob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    # Strings that go on in the next line, and what is filled in.
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`(?:, `.+?`)*) \|", text.split("## Configs, data and results")[1], re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        for message in re.findall("`(.+?)`", row):
            for part in re.split("…", message):
                assert part.strip(" ()'") in code, message


def test_edits_must_fit():
    assert edit("a\nb\nc\n", "-a\n+A\n@@\n b\n+B\n") == "A\nb\nB\nc\n"
    with pytest.raises(AssertionError, match="stands 0 times"):
        edit("a\n", "-b\n")
    with pytest.raises(AssertionError, match="stands 2 times"):
        edit("a\na\n", "-a\n")


def test_the_config_in_the_readme_is_one():
    (text,) = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    settings, _ = load_experiment([], parse_yaml(text, "README.md"), "README.md")
    assert {name: list(list_labels(dataset)) for name, dataset in settings["datasets"].items()} == {
        "people": ["age", "gender"], "faces": ["expression"], "street": []
    }  # fmt: skip

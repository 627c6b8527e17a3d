"""The explorer as people use it, in a browser without a network."""

import csv
import io
import json
import shutil
import time
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from benchmarks.made_up_experiment import write_experiment
from stages.report.export_explorer import main
from stages.storage.contracts import WEIGHTS
from stages.storage.tables import read_table

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the path")

HOSTILE = "</script><img src=x onerror=alert(1)>\"'\n&"
CLASSES = {"mood": ["angry", "happy", "sad"], "pose": ["left", HOSTILE, "right"]}
SIZES = {"faces": 150, "heads": 90}
PATH = "<script>alert(2)</script>{number}.png"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1500,1000"),
    *("--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The explorer of a made-up experiment with two methods, and the folder it was made from."""
    folder = tmp_path_factory.mktemp("explorer")
    options = write_experiment(folder, SIZES, CLASSES, path_format=PATH)
    runs = ("--experiment", "made_up", "--runs", "mtl_sa/0", "mtl_wf/0", "--max-embedded", "40")
    main([*options, *runs, "--output", str(folder / "explorer")])
    main([*options, "--experiment", "without", "--output", str(folder / "without")])
    return folder


class Page:
    """The explorer in a browser."""

    def __init__(self, driver, folder):
        self.driver = driver
        self.address = (folder / "index.html").as_uri()

    def open(self, **view):
        """Open it anew, with a view in the hash."""
        self.driver.get("about:blank")
        hash_ = self.run("return String(new URLSearchParams(arguments[0]))", view)
        self.driver.get(f"{self.address}#{hash_}")
        return self.wait(0)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, n_drawn):
        """Until the page has drawn all of itself at least so many times."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.run("return document.body.dataset.state === 'ready' && settled > arguments[0]", n_drawn):
                return self
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.text('#message')}, {self.driver.get_log('browser')}")

    def act(self, script, *arguments):
        """Do something that draws the page again, and wait for it."""
        before = self.run("return settled")
        self.run(script, *arguments)
        return self.wait(before)

    def choose(self, name, value):
        """Choose an option of a menu by its id."""
        return self.act(
            "const menu = document.getElementById(arguments[0]); menu.value = arguments[1];"
            "menu.dispatchEvent(new Event('change'))",
            name,
            value,
        )

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    @property
    def cards(self):
        """Numbers of the samples on the page, in order."""
        return self.run("return [...document.querySelectorAll('.card')].map((card) => +card.dataset.sample)")

    @property
    def n_shown(self):
        return int(self.text("#count b").replace(",", ""))

    @property
    def hash(self):
        found = parse_qs(urlsplit(self.driver.current_url).fragment)
        return {key: values[0] for key, values in found.items()}

    def click(self, selector):
        return self.act("document.querySelector(arguments[0]).click()", selector)

    def drag(self, selector, start, end):
        """Drag the mouse over an element, from one place to another in shares of its size."""
        before = self.run("return settled")
        box = self.run(
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'nearest'}); "
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]",
            selector,
        )
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            place = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
            event = {"type": kind, "button": "left", "buttons": 1, "clickCount": 1, **place}
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        return self.wait(before)


@pytest.fixture(scope="module")
def session(experiment, tmp_path_factory):
    """The page, and at the end what the browser asked the network for."""
    log = tmp_path_factory.mktemp("network") / "log.json"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--log-net-log={log}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service(DRIVER))
    yield Page(driver, experiment / "explorer")
    driver.quit()
    assert not list_requests(log)


def list_requests(log):
    """Addresses outside the machine that a page asked for; the browser's own services ask without one."""
    content = json.loads(log.read_text(encoding="utf-8"))
    kind = content["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    jobs = [event["params"] for event in content["events"] if event["type"] == kind and "params" in event]
    urls = {job["url"] for job in jobs if job.get("initiator", "not an origin") != "not an origin"}
    return {url for url in urls if not url.startswith(("file:", "data:", "blob:"))}


@pytest.fixture
def page(session):
    session.driver.get_log("browser")
    yield session
    severe = [entry["message"] for entry in session.driver.get_log("browser")]
    assert not severe


def read_weights(experiment, method="mtl_sa"):
    """Selection weights of all samples for `pose` in epoch 3, NaN where the label is given."""
    table = read_table(experiment / f"seed-0/{method}/epoch-003/pose/faces/weights.parquet", WEIGHTS)
    values = np.full(sum(SIZES.values()), np.nan, dtype=np.float32)
    values[table["sample_id"]] = table["selection_weight"]
    return values


def test_rows_are_drawn_sorted_by_weight_with_those_without_one_last(page, experiment):
    page.open(task="pose", size="240")
    weights = read_weights(experiment)
    assert len(page.cards) == 240 == page.n_shown
    expected = np.lexsort((np.arange(240), np.where(np.isnan(weights), 9, -weights)))
    assert page.cards == expected.tolist()
    assert page.text(".card .weights span").startswith("1.000")
    last = page.run("return [...document.querySelectorAll('.card')].at(-1).querySelector('.weights span').textContent")
    assert last == "–"


def test_pictures_are_there(page):
    """A sheet that fails to load leaves no error in the page: ask for its size."""
    page.open(task="pose")
    widths = page.driver.execute_async_script(
        "const [done] = arguments;"
        "const thumbnails = [...document.querySelectorAll('.card .thumbnail')];"
        "const urls = thumbnails.map((one) => one.style.backgroundImage.slice(5, -2));"
        "const measure = (url) => new Promise((go) => { const image = new Image();"
        "  image.onload = image.onerror = () => go(image.naturalWidth); image.src = url; });"
        "Promise.all(urls.map(measure)).then(done)"
    )
    assert len(widths) == 60
    assert set(widths) == {160}


def test_sorting_the_other_way_keeps_what_has_no_value_at_the_end(page, experiment):
    page.open(task="pose", size="240").click("#direction")
    weights = read_weights(experiment)
    assert page.cards == np.lexsort((np.arange(240), np.where(np.isnan(weights), 9, weights))).tolist()
    page.choose("sort", "sample").click("#direction")
    assert page.cards == list(range(239, -1, -1))


def test_filters_leave_what_they_say(page, experiment):
    page.open(task="pose", size="240").choose("filter-label", "given")
    assert page.n_shown == 15 + 90
    page.choose("filter-dataset", "0")
    assert page.n_shown == 15
    assert all(sample < 150 and sample % 10 == 0 for sample in page.cards)
    page.choose("filter-label", "").choose("filter-verdict", "wrong")
    wrong = page.n_shown
    page.choose("filter-verdict", "right")
    assert wrong + page.n_shown == sum(row % 2 == 1 for row in range(150))
    assert page.click("#clear").n_shown == 240


def test_a_range_says_what_it_hides_for_lack_of_a_value(page, experiment):
    weights = read_weights(experiment)
    page.open(task="pose", size="240")
    page.act(
        "const i = document.querySelector('[data-key=selection_weight] .low'); i.value = '0.5'; "
        "i.dispatchEvent(new Event('change'))"
    )
    n_above = int((weights >= 0.5).sum())
    assert page.n_shown == n_above
    assert page.text(".chip .empty") == "105 without a value hidden"
    page.click(".chip .empty")
    assert (page.n_shown, page.text(".chip .empty")) == (n_above + 105, "105 without a value shown")
    assert page.hash["range.selection_weight"] == "0.5::empty"


def test_dragging_over_a_histogram_filters(page, experiment):
    weights = read_weights(experiment)
    page.open(task="pose").drag("[data-key=selection_weight] svg", (0.2, 0.5), (0.6, 0.5))
    low, high, *_ = map(float, page.hash["range.selection_weight"].split(":"))
    assert (low, high) == (pytest.approx(0.2, abs=0.01), pytest.approx(0.6, abs=0.01))
    assert page.n_shown == int(((weights >= np.float32(low)) & (weights <= np.float32(high))).sum())


def test_pages_part_the_samples(page):
    page.open(task="pose", size="30")
    seen = list(page.cards)
    for number in range(2, 9):
        page.click("#next")
        assert page.text("#page") == f"{number} / 8"
        seen += page.cards
    assert sorted(seen) == list(range(240))
    assert page.run("return document.getElementById('next').disabled")


def test_a_cell_of_the_matrix_filters_by_both_labels_and_again_by_none(page):
    page.open(task="pose", label="missing")
    cells = page.run("return [...document.querySelectorAll('.cell')].map((c) => [c.textContent, c.classList[1]])")
    assert sum(int(text.replace("·", "0")) for text, _ in cells) == sum(row % 2 == 1 for row in range(150))
    at = next(number for number, (text, kind) in enumerate(cells) if kind == "wrong" and text != "·")
    known, pseudo = CLASSES["pose"][at // 3], CLASSES["pose"][at % 3]
    page.act("document.querySelectorAll('.cell')[arguments[0]].click()", at)
    assert page.n_shown == int(cells[at][0])
    assert (page.hash["known"], page.hash["pseudo"]) == (known, pseudo)
    page.act("document.querySelectorAll('.cell')[arguments[0]].click()", at)
    assert (page.n_shown, "known" in page.hash) == (150 - 15, False)


def test_a_sample_has_its_history_and_its_neighbours(page, experiment):
    page.open(task="pose")
    before = page.cards[0]
    page.run("document.querySelector('.card').click()")
    wait_for(page, "#history-table tbody tr")
    rows = page.run(
        "return [...document.querySelectorAll('#history-table tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert [row[0] for row in rows] == ["1", "3"]
    assert rows[1][2] == "1.000"
    table = read_table(experiment / "seed-0/mtl_sa/epoch-001/pose/faces/weights.parquet", WEIGHTS)
    [row] = np.flatnonzero(table["sample_id"] == before)
    assert float(rows[0][2]) == pytest.approx(table["selection_weight"][row], abs=5e-4)
    assert page.run("return document.querySelectorAll('.neighbor').length") == 8
    page.run("document.querySelector('.neighbor').click()")
    wait_for(page, f"#sample-title:not([data-was='{before}'])")
    assert page.hash["sample"] != f"faces:{before}"


def wait_for(page, selector):
    end = time.monotonic() + 10
    while not page.run("return document.querySelector(arguments[0])", selector):
        assert time.monotonic() < end, selector
        time.sleep(0.02)


def test_a_region_of_the_map_is_a_selection(page):
    page.open(task="pose").drag("#map", (0.1, 0.1), (0.5, 0.9))
    n_region = page.n_shown
    assert 0 < n_region < 240
    x, y = page.hash["range.pca_x"], page.hash["range.pca_y"]
    count = (
        "const [x, y] = ['pca_x', 'pca_y'].map((key) => view.column(key)); const [a, b, c, d] = arguments; let n = 0;"
        "for (let i = 0; i < x.length; i++) if (x[i] >= a && x[i] <= b && y[i] >= c && y[i] <= d) n++; return n"
    )
    bounds = [float(bound) for text in (x, y) for bound in text.split(":")[:2]]
    assert page.run(count, *bounds) == pytest.approx(n_region, abs=1)
    painted = page.run(
        "const c = document.getElementById('points'); let n = 0;"
        "const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "for (let i = 3; i < data.length; i += 4) if (data[i]) n++; return n"
    )
    assert painted > 240
    page.choose("plane", "tsne")
    assert "are not on the map" in page.text("#map-note")


def test_the_view_comes_back_from_the_hash(page):
    page.open(task="pose", size="30").choose("filter-label", "missing").choose("sort", "confidence_weight")
    page.choose("colour", "verdict").click("#next")
    page.run("document.querySelectorAll('.card')[4].click()")
    wait_for(page, "#history-table")
    address, cards, title = page.driver.current_url, page.cards, page.text("#sample-title")
    page.driver.get("about:blank")
    page.driver.get(address)
    page.wait(0)
    wait_for(page, "#history-table")
    assert (page.cards, page.text("#sample-title"), page.text("#page")) == (cards, title, "2 / 5")
    chosen = "return ['sort', 'colour', 'filter-label'].map((id) => document.getElementById(id).value)"
    assert page.run(chosen) == ["confidence_weight", "verdict", "missing"]
    assert page.driver.current_url == address
    page.act("location.hash = '#task=mood'")
    assert page.run("return document.getElementById('task').selectedOptions[0].textContent") == "mood"


def test_a_hash_of_nonsense_is_the_first_view(page):
    page.open(task="<b>", run="x/y", epoch="NaN", sort="-nothing", size="-3", pseudo="?", sample="a:b", colour="no")
    assert page.n_shown == 240
    assert len(page.cards) == 60


def test_two_methods_stand_side_by_side(page, experiment):
    page.open(task="pose", size="240").choose("beside", "1@3")
    assert page.run("return document.querySelector('.card').querySelectorAll('.soft').length") == 2
    page.choose("sort", "change")
    change = read_weights(experiment) - read_weights(experiment, "mtl_wf")
    best = int(np.nanargmax(change))
    assert page.cards[0] == best
    page.choose("beside", "0@1")
    page.act("document.getElementById('filter-changed').click()")
    pseudo = [
        read_table(experiment / f"seed-0/mtl_sa/epoch-{epoch:03d}/pose/faces/weights.parquet", WEIGHTS)["pseudo_label"]
        for epoch in (1, 3)
    ]
    weighed = [sample for sample in page.cards if sample < 150 and sample % 10]
    assert len(weighed) == int((pseudo[0] != pseudo[1]).sum())


def test_names_are_text_and_nothing_of_them_runs(page):
    page.open(task="pose", size="240", sample="faces:1")
    wait_for(page, "#history-table")
    assert page.text("#sample-content code") == PATH.format(number=1)
    classes = page.run("return [...document.querySelectorAll('.card .class')].map((e) => e.textContent)")
    assert HOSTILE in classes
    strange = page.run("return document.querySelectorAll('img, iframe, #columns script, [onerror]').length")
    assert strange == 0
    assert page.choose("filter-pseudo", "1").n_shown == classes.count(HOSTILE)
    assert page.hash["pseudo"] == HOSTILE


def test_the_selection_as_csv_has_ids_paths_and_empty_cells(page, experiment):
    page.open(task="pose", label="missing")
    text = page.driver.execute_async_script("const [done] = arguments; writeCsv(current.shown).then(done)")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    weights = read_weights(experiment)
    assert len(rows) == 135
    first = rows[0]
    sample = int(first["sample_id"])
    assert (first["dataset"], first["path"]) == ("faces", PATH.format(number=sample))
    assert float(first["selection_weight"]) == pytest.approx(weights[sample], rel=1e-6)
    assert {row["pseudo_label"] for row in rows} <= set(CLASSES["pose"])
    page.choose("run", "1")
    text = page.driver.execute_async_script("const [done] = arguments; writeCsv(current.shown).then(done)")
    assert {row["density_weight"] for row in csv.DictReader(io.StringIO(text, newline=""))} == {""}


def test_without_runs_there_are_the_samples_and_their_labels(page, experiment):
    page.driver.get((experiment / "without/index.html").as_uri())
    page.wait(0)
    assert page.cards == list(range(60))
    assert page.text("#run") == "none has weights"
    page.click("#next")
    assert page.choose("filter-label", "given").n_shown == 150
    page.run("document.querySelector('.card').click()")
    wait_for(page, "#sample-content code")


def test_search_finds_numbers_and_paths(page):
    page.open(task="pose")
    page.choose("filter-query", "#7#")
    assert sorted(page.cards) == [7, 157]
    page.choose("filter-query", "heads/<script>alert(2)</script>12.")
    assert page.cards == [162]


def test_keys_walk_over_the_cards(page):
    page.open(task="pose", size="30")
    keys = webdriver.common.keys.Keys
    page.run("document.getElementById('skip').click()")
    focused = "return +document.activeElement.dataset.sample"
    assert page.run(focused) == page.cards[0]
    for key, place in ((keys.ARROW_RIGHT, 1), (keys.END, 29), (keys.HOME, 0)):
        page.driver.switch_to.active_element.send_keys(key)
        assert page.run(focused) == page.cards[place]
    page.driver.switch_to.active_element.send_keys(keys.ENTER)
    wait_for(page, "#history-table")
    assert page.run("return document.querySelector('.card').getAttribute('aria-pressed')") == "true"
    unnamed = page.run(
        "return [...document.querySelectorAll('button, select, input, canvas')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.closest('label') || e.textContent.trim())).length"
    )
    assert unnamed == 0

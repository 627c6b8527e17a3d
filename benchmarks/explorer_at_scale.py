"""The sample explorer at 20,000 and 200,000 samples: what writing it costs, and how long it makes people wait.

Makes up an experiment of two datasets (images of 32 pixels, 10 classes, 128 features, 4 epochs), exports it as the
rule does, and opens it in a headless Chromium from the disk. A time in the browser ends when all of the page is
drawn again. Needs chromium and chromedriver.

    python -m benchmarks.explorer_at_scale
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.made_up_experiment import write_experiment
from stages.command.wording import format_table

BUDGETS = {"ready": 3.0, "sort": 0.5, "filter": 0.5}
"""Seconds at 200,000 samples on two cores."""
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1500,1000")
ACTIONS = {
    "sort": "Object.assign(state, {sort: 'density_weight', down: false}); update()",
    "filter": "setRange('confidence_weight', 0.5, 0.8)",
    "region": "selectRegion([-0.2, 0.2, -0.2, 0.2])",
    "another epoch": "state.ranges.clear(); state.epoch = 1; update()",
    "history": "chooseSample(current.shown[0]).then(() => settled++)",
    "another history": "chooseSample(current.shown[1]).then(() => settled++)",
}
"""What people do, in this order; epochs and histories read what they need from the disk."""


def export_explorer(folder: Path, n_samples: int, max_embedded: int) -> tuple[Path, float, float]:
    """The explorer of made-up samples; wall seconds and peak gigabytes of the stage."""
    classes = {task: [f"{task} {k}" for k in range(10)] for task in ("style", "age")}
    sizes = {"unlabeled": n_samples * 9 // 10, "labeled": n_samples // 10}
    options = write_experiment(folder, sizes, classes, methods=["mtl_sa"], shape=(32, 32, 3), dim=128)
    command = [sys.executable, "-m", "stages.report.export_explorer", *options, "--experiment", "made_up"]
    command += ["--runs", "mtl_sa/0", "--threads", "2", "--max-embedded", str(max_embedded)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--output", str(folder / "explorer")])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("export_explorer failed")
    return folder / "explorer", time.perf_counter() - start, usage.ru_maxrss / 1e6


def time_page(folder: Path) -> dict[str, float]:
    """Seconds until the page is ready, and until it is drawn again after each of `ACTIONS`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service("/usr/bin/chromedriver"))
    driver.set_script_timeout(120)
    poll = (
        "if (typeof settled === 'number' && settled > before) done(performance.now() - start); else setTimeout(look, 5)"
    )
    wait = f"const done = arguments[1], before = arguments[0]; const look = () => {{ {poll}; }};"
    try:
        driver.get(f"{(folder / 'index.html').as_uri()}#task=age")
        times = {"ready": driver.execute_async_script(f"{wait} const start = 0; look()", 0) / 1000}
        for name, action in ACTIONS.items():
            script = f"{wait} const start = performance.now(); {action}; look()"
            times[name] = driver.execute_async_script(script, driver.execute_script("return settled")) / 1000
    finally:
        driver.quit()
    return times


def main() -> None:
    """Print a table, a line for each number of samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--max-embedded", type=int, default=5000, help="samples that t-SNE places")
    parser.add_argument("--repeats", type=int, default=3, help="of the times in the browser; the median is printed")
    options = parser.parse_args()
    rows = []
    for n_samples in options.samples:
        with tempfile.TemporaryDirectory() as folder:
            explorer, seconds, gigabytes = export_explorer(Path(folder), n_samples, options.max_embedded)
            sizes = [path.stat().st_size for path in explorer.rglob("*") if path.is_file()]
            repeats = [time_page(explorer) for _ in range(options.repeats)]
        times = {name: sorted(one[name] for one in repeats)[len(repeats) // 2] for name in repeats[0]}
        export = [f"{seconds:.1f} s", f"{gigabytes:.2f} GB", f"{sum(sizes) / 1e6:.0f} MB", f"{len(sizes)}"]
        rows.append([f"{n_samples}", *export, *(f"{value:.2f} s" for value in times.values())])
    head = ["samples", "export", "peak memory", "folder", "files", "ready", *ACTIONS]
    print(format_table(head, rows))
    print("budgets at 200,000: " + ", ".join(f"{name} {seconds} s" for name, seconds in BUDGETS.items()))


if __name__ == "__main__":
    main()

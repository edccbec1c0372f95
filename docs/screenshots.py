"""Take the pictures of the documentation from a study: MLflow, and the report in light and dark.

    cspbench sweep sweeps/smoke.yaml --set "sparsity=[0.5, 0.8, 0.9]" --set name=commands
    python docs/screenshots.py commands

It needs Chromium, as the tests of pages do.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from support.browser import Page, browser  # noqa: E402
from support.ui import ui  # noqa: E402

from cspbench.store import Store  # noqa: E402

COLOURS = 256
"""Colours of a picture: a page has few, and the file is half as large."""


def take(page: Page, name: str) -> None:
    """Write what the page shows to ``images/<name>.png``, with few colours."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        page.screenshot(shot)
        picture = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB").quantize(COLOURS)
    target = DOCS / "images" / f"{name}.png"
    target.parent.mkdir(exist_ok=True)
    picture.save(target, optimize=True)
    print(target, target.stat().st_size)


def take_report(page: Page, path: Path) -> None:
    """Take the figures of a report in light, and weights and errors in dark."""
    page.resize(1280, 860)
    page.open(path.as_uri())
    page.wait("document.querySelectorAll('figure svg').length >= 5")
    take(page, "report")
    page.js("document.getElementById('theme').click()")
    page.js(
        "(() => { const s = document.querySelector('select[data-weights]'), last = [...s.options].findLast(o => "
        "o.text.startsWith('csp')); s.value = last.value; s.dispatchEvent(new Event('change')); "
        "s.scrollIntoView(); scrollBy(0, -90); })()"
    )
    take(page, "report_dark")


def take_mlflow(page: Page, address: str) -> None:
    """Take the runs of a study, and their charts; MLflow's assistant, which covers a quarter, is closed first."""
    page.resize(1500, 760)
    page.open(address)
    page.wait("document.querySelectorAll('.ag-row a').length > 3")
    page.wait("document.querySelector('[aria-label=Close]') !== null")
    page.js("document.querySelector('[aria-label=Close]').click()")
    take(page, "mlflow_runs")
    page.resize(1500, 1120)
    page.js("location.href += '&compareRunsMode=CHART'")
    page.wait("document.querySelectorAll('.scatterlayer .point').length >= 9")
    page.wait("document.querySelectorAll('.parcoords .dimension').length >= 5")
    take(page, "mlflow_charts")


def main() -> None:
    """Take all pictures of a study."""
    parser = argparse.ArgumentParser(description="Take the pictures of the documentation from a study.")
    parser.add_argument("study")
    parser.add_argument("--root", default="runs")
    given = parser.parse_args()
    store = Store(given.root)
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        take_report(page, store.study(given.study).report / "report.html")
        with ui(store, given.study) as address:
            take_mlflow(page, address)


if __name__ == "__main__":
    main()

"""The twelve questions, answered by clicking: in the report, and in MLflow's own pages."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.browser import Page, browser, needs_chromium
from support.fake_studies import finish, record, result, spec, write_study
from support.ui import ui

from cspbench import load_results
from cspbench.report.page import html_page
from cspbench.report.table import summary
from cspbench.result import Noise
from cspbench.store import Store
from cspbench.sweep.tracking import Tracker, open_client
from cspbench.trials.outcome import Outcome
from cspbench.trials.records import TrialLog, read_result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "questions.md"


def questions() -> list[str]:
    rows = [line.split("|")[1].strip() for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    return rows[1:]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A study `rnnt` with a control, noisy latencies, audio of an utterance, and a trial that failed."""
    store = write_study(
        tmp_path_factory.mktemp("answers") / "runs",
        "rnnt",
        methods=["csp", "magnitude"],
        sparsities=[0.5, 0.9, 0.99],
        seeds=[0],
    )
    control = spec("control", 0.0)
    outcome = result(control, 0.02)
    assert outcome.latency is not None
    noisy = outcome.latency.model_copy(update={"noise": Noise(conclusive=False, verdict="noisy")})
    finish(store, "rnnt", control, outcome.model_copy(update={"latency": noisy}))
    noise = np.random.default_rng(0).normal(size=16000) * 0.1
    soundfile.write(store.trial(control.id).clip(0), noise, 16000, format="MP3")
    record(store, "rnnt", spec("lottery", 0.99), "failed", "CspbenchError: boom")
    return store


@needs_chromium
def test_they_are_answered_in_the_report(store: Store, tmp_path: Path) -> None:
    frame = load_results("rnnt", store)
    path = tmp_path / "report.html"
    path.write_text(html_page("rnnt", store, frame, summary(frame)), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.resize(1280)
        page.open(path.as_uri())
        page.wait("document.querySelectorAll('figure svg').length >= 5")

        def column(table: str, heading: str) -> list[str]:
            head = f"[...document.querySelectorAll('#{table} th')].findIndex(h => h.textContent === '{heading}')"
            return page.js(
                f"[...document.querySelectorAll('#{table} tbody tr')].map(r => r.cells[{head}]?.textContent)"
            )

        def sort(table: str, heading: str) -> None:
            page.js(f"[...document.querySelectorAll('#{table} th')].find(h => h.textContent === '{heading}').click()")

        def below(id: str) -> str:
            """Text of a section, up to the next heading."""
            return page.js(
                f"(() => {{ let e = document.getElementById('{id}'), t = ''; while ((e = e.nextElementSibling) && "
                "e.tagName !== 'H2') t += e.innerText + '\\n'; return t; })()"
            )

        sort("all", "dev WER %")
        assert column("all", "method")[0] == "control"
        size = "document.querySelectorAll('[data-figure=\"scatter size wer B\"] .mark')"
        marks = page.js(f"[...{size}].map(mark => mark.ariaLabel)")
        small = [mark for mark in marks if (kilobytes := re.search(r"size (\d+) kB", mark)) and int(kilobytes[1]) < 500]
        assert {mark.split(" % sparsity")[0] for mark in small} == {"csp at 99", "magnitude at 99"}
        sort("summary", "vs dense")
        assert column("summary", "method")[0] == "control"
        assert "within 5 % of dense" in page.text()
        cells = "row => [row.cells[0].textContent, +row.cells[1].textContent]"
        palest = page.js(f"[...document.querySelectorAll('.heat tbody tr')].map({cells})")
        assert min(palest, key=lambda row: row[1])[0] == "encoder.weight_ih_l0"
        assert re.search(r"said\s+recognised\s+edits\s+audio", below("errors"))
        assert re.search(r"csp\s+90 %\s+magnitude\s+-", below("tests"))
        assert column("summary", "speed-up")[column("summary", "method").index("control")].startswith("~")
        assert all(column("summary", "compression"))
        assert "size kB" in page.text()
        assert page.js("document.querySelectorAll('[data-figure=\"curve dev\"] polyline').length") == 7
        assert "strength=0.5" in column("all", "hyperparameters")[1]
        assert "boom" in page.text()
        assert len(questions()) == 12


@needs_chromium
@pytest.mark.timeout(900)
def test_they_are_answered_in_mlflow(store: Store, tmp_path: Path) -> None:
    client = open_client(store)
    tracker = Tracker(client, store, "rnnt", {"a": 1})
    for found in TrialLog(store.study("rnnt").trials).records():
        folder = store.trial(found.trial_id)
        done = read_result(folder) if folder.finished else None
        tracker.log(Outcome(found.parse(), done, None if done else found.error))
    table = tmp_path / "summary.md"
    table.write_text("# rnnt\n\n| method |\n")
    tracker.finish("FINISHED", files=[table])
    experiment = client.get_experiment_by_name("rnnt").experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    with ui(store, "rnnt") as address, browser(tmp_path / "profile") as page:
        page.resize(1900, 1400)
        site = address.partition("/#")[0]
        run = f"{site}/#/experiments/{experiment}/runs/{runs['control-0-seed0']}"

        def shows(url: str, *texts: str) -> None:
            page.open("about:blank")
            page.open(url)
            for text in texts:
                page.wait(f"document.body.innerText.includes('{text}')")

        page.open(address)
        names = "[...document.querySelectorAll('.ag-row a')].map(a => a.innerText).filter(t => t.includes('seed'))"
        page.wait(f"{names}.length == 9 && {names}.includes('control-0-seed0')")
        for query, answer in {
            "metrics.size_bytes < 500000": {"csp-0.99-seed0", "magnitude-0.99-seed0"},
            "metrics.wer_change < 0.05": {"dense-seed0", "control-0-seed0"},
            "attributes.status = 'FAILED'": {"lottery-0.99-seed0"},
        }.items():
            search(page, query, f"{names}.sort().join() === '{','.join(sorted(answer))}'")
        shows(run, "cspbench.latency", "noisy", "speedup", "compression", "size_bytes", "dense_epochs")
        shows(f"{run}/model-metrics", "curve/dev_wer")
        shows(f"{run}/artifacts", "hypotheses.json", "layers_and_curve.png", "worst utterances")
        play(page, "worst utterances", "utterance-00000.mp3")
        shows(f"{site}/#/experiments/{experiment}/runs/{runs['lottery-0.99-seed0']}", "CspbenchError: boom")
        shows(f"{site}/#/models/rnnt", "best", "sparsity-50")
        pair = ",".join(f"%22{runs[name]}%22" for name in ("csp-0.9-seed0", "magnitude-0.9-seed0"))
        shows(f"{site}/#/compare-runs?runs=[{pair}]&experiments=[%22{experiment}%22]", "Comparing 2 Runs", "test_wer")


def play(page: Page, folder: str, clip: str) -> None:
    """Open a folder of artifacts and a clip in it, and let MLflow's viewer play that."""
    for name in (folder, clip):
        label = f"document.evaluate(\"//*[text()[normalize-space()='{name}']]\", document, null, 9).singleNodeValue"
        page.wait(f"{label} !== null")
        page.click(*page.middle(label))
    audio = "[...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('audio')).find(e => e)"
    page.wait(f"({audio})?.duration > 0.9")
    page.js(f"({audio}).play()")
    page.wait(f"({audio}).currentTime > 0")


def search(page: Page, query: str, found: str) -> None:
    """Type a filter into the search box in place of what it holds; press Enter until an expression is true.

    The first Enter may go to the suggestions that the box shows.
    """
    box = "document.querySelector('[data-testid=search-box]')"
    page.click(*page.middle(box))
    page.js(f"{box}.select()")
    page.call("Input.insertText", text=query)
    for attempt in range(9):
        for kind in ("keyDown", "keyUp"):
            page.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )
        try:
            page.wait(found, 10)
            return
        except AssertionError:
            if attempt == 8:
                raise

"""The page of a study: what it holds, and how it behaves in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from support.browser import Page, browser, needs_chromium
from support.fake_studies import finish, result, spec, write_study

from cspbench import load_hypotheses, load_results
from cspbench.report import page_data
from cspbench.report.confusions import worst_utterances
from cspbench.report.page import html_page
from cspbench.report.page_tables import significance_rows, within_tolerance
from cspbench.report.table import select_on_dev, summary
from cspbench.store import Store, write_jsonl
from cspbench.trials.records import read_rows


def write_page(store: Store, name: str = "demo") -> Path:
    frame = load_results(name, store)
    path = store.root / "page.html"
    path.write_text(html_page(name, store, frame, summary(frame)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = write_study(tmp_path_factory.mktemp("page"), seeds=[0, 1])
    for index in range(24):  # a search of csp at 90 %
        trial = spec("csp", 0.9, params={"strength": 0.6 + index / 100})
        finish(store, "demo", trial, result(trial, 0.2 + (index - 5) ** 2 / 1000))
    frame = load_results("demo", store)
    for id in frame["trial_id"]:
        write_jsonl(
            store.trial(id).weight_log,
            (
                {"step": 80 * i, "kept": [0] * 9 + [9 - i] * 10 + [0], "removed": [0] * 9 + [i] + [0] * 10}
                for i in (1, 2, 3)
            ),
        )
    worst = worst_utterances(load_hypotheses("demo", store).query("trial_id == @frame.trial_id[0]"), 1)
    tone = 0.1 * np.sin(np.arange(16000) / 5)
    soundfile.write(store.trial(frame["trial_id"][0]).clip(int(worst.index[0])), tone, 16000, format="MP3")
    failed = store.trial(frame[frame["method"] == "movement"]["trial_id"].iloc[0]).curve
    rows = read_rows(failed)
    rows[-1]["loss"] = 1e9
    write_jsonl(failed, rows)
    return write_page(store)


def data_of(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)
    assert found
    return json.loads(found[1])


def luminance(page: Page) -> float:
    red, green, blue = map(int, re.findall(r"\d+", page.js("getComputedStyle(document.body).backgroundColor"))[:3])
    return (red + green + blue) / 765


@needs_chromium
def test_the_page_works_in_a_browser_and_asks_for_nothing_else(page: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as tab:
        tab.resize(1280)
        tab.open(page.as_uri())
        tab.wait("document.querySelectorAll('figure svg').length >= 5")
        # Hover: method, sparsity, WER with its interval.
        mark = "document.querySelector('figure svg path.mark[aria-label^=\"csp at 90\"]')"
        place = tab.middle(mark)
        assert tab.js("document.getElementById('tip').hidden")
        tab.hover(*place)
        shown = tab.wait("document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent", 20)
        assert re.search(r"csp at 90 % sparsity\ntest WER [\d.]+ % \[[\d.]+, [\d.]+\]", shown)
        lit = tab.js("[...document.querySelectorAll('.linked')].map(e => e.closest('figure').dataset.figure)")
        assert lit == ["scatter asked wer S", "scatter latency wer L", "scatter size wer B", "scatter asked latency"]
        nowhere = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href')))"
        assert tab.js(f"{nowhere}.length") == 0
        said = "document.querySelector('[data-figure=\"curve loss\"] figcaption').textContent"
        assert tab.js(said).startswith("1 of 12 curves leave the figure")
        line = 'document.querySelector(\'[data-figure="curve volume"] polyline[aria-label^="csp: "]\')'
        assert re.search(r"csp: 30 trials, ends at [\d.]+ %", tab.js(f"{line}.getAttribute('aria-label')"))
        assert re.search(r"csp\s+strength\s+100\s+25", tab.text())
        # The response to a hyperparameter: a mark a setting.
        marks = "[...document.querySelectorAll('[data-figure=response] .mark')].map(m => m.ariaLabel)"
        assert len(tab.js(marks)) == 27
        assert "csp at 90 % sparsity, strength 0.65, dev WER 20.0 %" in tab.js(marks)
        # Weights at three steps of a chosen trial.
        choice = "document.querySelector('select[data-weights]')"
        tab.js(f"{choice}.value = [...{choice}.options].find(o => o.text === 'lottery 75 %').value")
        tab.js(f"{choice}.dispatchEvent(new Event('change'))")
        columns = "[...document.querySelectorAll('[data-figure=\"weights removed\"] .column')].map(c => c.ariaLabel)"
        assert tab.js(columns)[1:] == [
            "step 160: 2.8 % of the weights removed, half of them below 0.0316",
            "step 240: 4.8 % of the weights removed, half of them below 0.0316",
        ]
        # The worst utterance of the first trial is heard, when clicked by a person.
        button = "document.querySelector('[data-clip]')"
        tab.js(
            "(() => { const s = document.getElementById('errors-of'); s.value = "
            f"{button}.closest('.errors').id; s.dispatchEvent(new Event('change')); }})()"
        )
        tab.click(*tab.middle(button))
        tab.wait(f"{button}.getAttribute('aria-pressed') === 'true'", 20)
        tab.click(*tab.middle(button))
        assert tab.js(f"{button}.getAttribute('aria-pressed')") == "false"
        # A method is switched off and on.
        marks = "document.querySelectorAll('figure svg .mark[aria-label^=\"csp at\"]').length"
        before = tab.js(marks)
        toggle = "[...document.querySelectorAll('.keys button')].find(b => b.textContent === 'csp').click()"
        tab.js(toggle)
        assert tab.js(marks) == 0
        tab.js(toggle)
        assert tab.js(marks) == before > 0
        # The table is sorted by its second column, either way, and filtered.
        column = "[...document.querySelectorAll('#all tbody tr')].map(row => parseFloat(row.cells[3].textContent))"
        head = "document.querySelectorAll('#all th')[3].click()"
        tab.js(head)
        rising = tab.js(column)
        assert rising == sorted(rising)
        tab.js(head)
        assert tab.js(column) == sorted(rising, reverse=True)
        tab.js(
            "(() => { const i = document.querySelector('[data-filter=all]'); i.value = 'lottery'; "
            "i.dispatchEvent(new Event('input')); })()"
        )
        left = tab.js(
            "[...document.querySelectorAll('#all tbody tr:not([hidden])')].map(row => row.cells[0].textContent)"
        )
        assert set(left) == {"lottery"}
        # Dark: as the system says, or as chosen.
        assert luminance(tab) > 0.9
        tab.js("document.getElementById('theme').click()")
        assert luminance(tab) < 0.2
        tab.resize(390, 800)
        tab.wait("document.documentElement.scrollWidth <= 390")  # figures are drawn anew
        assert tab.errors == []
        assert {url.split(":")[0] for url in tab.requests} <= {"file", "data"}
        assert [url for url in tab.requests if url.startswith("file")] == [page.as_uri()]


def test_every_cell_and_its_interval_are_in_the_data(page: Path) -> None:
    (place,) = data_of(page)["places"]
    cells = {(cell["method"], cell["asked"]): cell for cell in place["cells"]}
    assert len(cells) == 4 * 3 + 1
    assert cells["csp", 0.9]["low"] < cells["csp", 0.9]["wer"] < cells["csp", 0.9]["high"]
    assert cells["csp", 0.9]["seeds"] == 2
    assert "S" in cells["csp", 0.9]["front"]
    assert len(place["curves"]) == 12


def test_thousands_of_trials_keep_the_page_small(tmp_path: Path) -> None:
    """A search over sparsity: a thousand rows that differ, of a trial each."""
    store = write_study(tmp_path, methods=["csp"], sparsities=[0.5], seeds=[0])
    row = load_results("demo", store)
    rows = pd.concat([row] * 1000, ignore_index=True)
    rows["sparsity_requested"] = rows["sparsity"] = [0.3 + 0.0006 * i for i in range(1000)]
    rows["test_wer"] = [0.1 + 0.0001 * (i % 97) for i in range(1000)]
    text = html_page("demo", store, rows, summary(rows))
    assert len(text.encode()) < 5_000_000
    assert f"{page_data.MOST_CELLS} of 1000 cells" in text


def test_words_of_people_cannot_end_the_script(tmp_path: Path) -> None:
    store = Store(tmp_path)
    trial = spec(params={"note": "</script><script>alert(1)</script>"})
    finish(store, "demo", trial, result(trial, 0.1))
    other = spec(params={"note": "plain"})
    finish(store, "demo", other, result(other, 0.2))
    text = write_page(store).read_text()
    assert "<script>alert" not in text
    assert "note=</script>" in data_of(store.root / "page.html")["places"][0]["cells"][1]["params"]


def test_highest_sparsity_within_five_percent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for sparsity, wer in ((0.5, 0.1), (0.75, 0.105), (0.9, 0.2)):
        trial = spec("csp", sparsity)
        finish(store, "demo", trial, result(trial, wer, dense=0.1))
    trial = spec("magnitude", 0.5)
    finish(store, "demo", trial, result(trial, 0.2, dense=0.1))
    rows = within_tolerance(summary(load_results("demo", store)))
    assert [list(row.values()) for row in rows] == [["csp", "75 % (+5.0 %)"], ["magnitude", "none"]]


def test_each_method_is_tested_against_its_best_rival(tmp_path: Path) -> None:
    store = write_study(tmp_path, methods=["csp", "magnitude", "movement"], sparsities=[0.9], seeds=[0])
    chosen = select_on_dev(load_results("demo", store))
    rows = {row["method"]: row for row in significance_rows(chosen, store)}
    assert {method: row["best rival"] for method, row in rows.items()} == {
        "csp": "magnitude",
        "magnitude": "csp",
        "movement": "csp",
    }
    assert float(rows["csp"]["p, Holm"]) >= float(rows["csp"]["p"])
    assert rows["csp"]["difference of WER, points"].startswith("-")
    alone = chosen[chosen["method"] == "csp"]
    assert significance_rows(alone, store) == []


def test_more_cells_than_fit_are_spread_evenly() -> None:
    trials = pd.DataFrame(
        {
            "corpus": "fsdd",
            "schema": 2,
            "method": ["csp"] * 100 + ["magnitude"],
            "sparsity_requested": [i / 100 for i in range(100)] + [0.5],
            "trial_id": [str(i) for i in range(101)],
        }
    )
    shown = page_data.shown_cells(trials)
    csp = shown[shown["method"] == "csp"]["sparsity_requested"].tolist()
    assert len(shown) <= page_data.MOST_CELLS
    assert (csp[0], csp[-1]) == (0.0, 0.99)
    assert (shown["method"] == "magnitude").sum() == 1

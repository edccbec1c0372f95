import csv
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from support.fake_studies import finish, record, result, spec, write_study

from cspbench import load_results
from cspbench.errors import CspbenchError
from cspbench.report.page import doubts, html_page, markdown_table
from cspbench.report.table import fronts, summary
from cspbench.report.write import write_report
from cspbench.store import Store


class Page(HTMLParser):
    """Collects tags, texts, sources and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.sources = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    store = write_study(tmp_path_factory.mktemp("write") / "runs", seeds=(0, 1))
    record(store, "demo", spec("lottery", 0.99), "failed", "Traceback\nRuntimeError: <loss> is NaN & gone")
    return store, write_report("demo", store)


def test_all_files_lie_in_the_study(written):
    store, paths = written
    folder = store.study("demo").report
    names = {path.name for path in paths}
    pictures = {"wer_vs_sparsity", "wer_vs_latency", "wer_vs_size", "latency_vs_sparsity", "overview", "layers"}
    texts = {"results.csv", "summary.csv", "pareto.csv", "summary.md", "report.html"}
    assert names == texts | {f"{name}.{kind}" for name in pictures for kind in ("png", "svg", "pdf")}
    assert all(path.parent == folder and path.stat().st_size > 0 for path in paths)
    assert paths[-1].name == "report.html"


def test_results_csv_holds_every_trial(written):
    store, _ = written
    path = store.study("demo").report / "results.csv"
    frame = pd.read_csv(path)
    assert len(frame) == 4 * 3 * 2 + 1
    assert frame["state"].value_counts().to_dict() == {"complete": 24, "failed": 1}
    assert frame["wer"].dropna().to_numpy() == pytest.approx(
        load_results("demo", store.root)["wer"].dropna().to_numpy()
    )
    with path.open() as file:
        assert all(len(row) == len(frame.columns) for row in csv.reader(file))


def test_pareto_csv_holds_the_fronts(written):
    store, _ = written
    front = pd.read_csv(store.study("demo").report / "pareto.csv")
    assert set(front["method"]) == {"dense", "csp"}
    assert front[["wer_vs_sparsity", "wer_vs_latency", "wer_vs_size"]].any(axis=1).all()
    assert len(front) == len(fronts(summary(load_results("demo", store.root))))


def test_the_page_needs_nothing_beside_it(written):
    store, paths = written
    text = paths[-1].read_text()
    page = Page(text)
    assert [source for source in page.sources if not source.startswith("#")] == ["data:,"]  # an icon that is empty
    assert not {"iframe", "img", "object"} & set(page.tags)
    assert not re.search(r"https?://", text)
    words = " ".join(page.texts)
    for expected in ("packed CSR", "float32", "RuntimeError: <loss> is NaN & gone", "24 complete, 1 failed", "dev WER"):
        assert expected in words
    assert f"cspbench report demo --root {store.root}" in words
    assert "synthetic" not in words


def test_text_is_escaped(tmp_path):
    store = Store(tmp_path)
    trial = spec("csp", params={"note": "<script>alert(1)</script>"})
    other = spec("csp", params={"note": "a|b\n<b>"})
    for each, dev in ((trial, 0.1), (other, 0.2)):
        finish(store, "s", each, result(each, 0.1, dev=dev))
    frame = load_results("s", tmp_path)
    page = html_page("s", store, frame, summary(frame))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    table = summary(frame)
    table["params"] = "a|b\n<b>"
    lines = markdown_table(table).splitlines()
    assert len(lines) == 4
    assert all(line.count("|") - line.count("\\|") == lines[0].count("|") for line in lines)


def test_synthetic_speech_is_said_on_the_page(tmp_path):
    store = write_study(tmp_path, methods=["csp"], seeds=[0], synthetic=True)
    frame = load_results("demo", tmp_path)
    words = " ".join(Page(html_page("demo", store, frame, summary(frame))).texts)
    assert "fsdd (synthetic speech)" in words
    assert "made by a machine" in words


def test_two_corpora_have_their_own_pictures(tmp_path):
    store = Store(tmp_path)
    for corpus, wer in (("an4", 0.3), ("fsdd", 0.1)):
        for method in ("csp", "magnitude"):
            trial = spec(method, corpus=corpus)
            finish(store, "s", trial, result(trial, wer if method == "csp" else wer + 0.1))
    names = {path.name for path in write_report("s", store)}
    assert {"overview_an4.png", "overview_fsdd.png", "wer_vs_sparsity_an4.svg"} <= names
    front = pd.read_csv(store.study("s").report / "pareto.csv")
    assert set(front["corpus"]) == {"an4", "fsdd"}


def test_an_earlier_report_is_replaced(written):
    store, paths = written
    results = next(path for path in paths if path.name == "results.csv")
    results.write_text("old")
    assert set(write_report("demo", store)) == set(paths)
    assert len(pd.read_csv(results)) == 25


def test_nothing_finished_is_an_error_that_says_why(tmp_path):
    store = Store(tmp_path)
    record(store, "s", spec(), "failed", "no space left")
    with pytest.raises(CspbenchError, match=r"no finished trial.*1 failed.*no space left"):
        write_report("s", store)
    assert not store.study("s").report.exists()


def test_latencies_that_cannot_be_compared_or_believed_are_warned_of():
    frame = pd.DataFrame(
        {
            "schema": 1,
            "protocol.packed": ["torch CSR", "native engine", "native engine"],
            "protocol.processor": ["a", "a", "a"],
            "latency_conclusive": [None, 1.0, 0.0],
        }
    )
    mixed, noisy = doubts(frame)
    assert "measured on native engine and torch CSR" in mixed
    assert "noisy to tell the latency of 1 of 2 trials" in noisy
    assert doubts(frame.iloc[[1]]) == []
    assert doubts(pd.DataFrame({"state": ["complete"], "schema": [1], "latency_conclusive": [1.0]})) == []

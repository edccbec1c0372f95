"""Links from the page of a study to the runs of its trials in MLflow."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from support.browser import browser, needs_chromium
from support.fake_studies import finish, result, spec

from cspbench import load_results
from cspbench.report.links import run_links
from cspbench.report.page import html_page
from cspbench.report.table import summary
from cspbench.store import Store
from cspbench.sweep import tracking
from cspbench.sweep.servers import linked_server
from cspbench.trials.outcome import Outcome
from cspbench.trials.records import ResultsError

Run = Callable[..., tuple[int, str, str]]

TRIALS = [spec("csp", seed=0), spec("csp", seed=1), spec("magnitude")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three finished trials, of which the first two are logged in MLflow."""
    store = Store(tmp_path_factory.mktemp("runs"))
    tracker = tracking.Tracker(tracking.open_client(store), store, "demo", {"a": 1})
    for trial, wer in zip(TRIALS, (0.1, 0.1, 0.3), strict=True):
        finish(store, "demo", trial, result(trial, wer))
    for trial in TRIALS[:2]:
        tracker.log(Outcome(trial, result(trial, 0.1)))
    tracker.finish("FINISHED")
    return store


@pytest.fixture
def database(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Take the store's own database for every server, and draw no figures; return the servers asked for."""
    client, asked = tracking.open_client(store), []

    def open_client(store: Store, server: str | None = None) -> object:
        asked.append(server)
        return client

    monkeypatch.setattr(tracking, "open_client", open_client)
    monkeypatch.setattr("cspbench.report.write._write_pictures", lambda *_: [])
    for name in ("USERNAME", "PASSWORD", "URI"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
    return asked


def addresses(store: Store, server: str) -> dict[str, str]:
    """Addresses of the runs, by trial, as MLflow's database has them."""
    client = tracking.open_client(store)
    id = client.get_experiment_by_name("demo").experiment_id
    runs = [run for run in client.search_runs([id]) if "cspbench.trial_id" in run.data.tags]
    return {run.data.tags["cspbench.trial_id"]: f"{server}/#/experiments/{id}/runs/{run.info.run_id}" for run in runs}


def test_marks_and_ids_have_the_addresses_of_their_runs_and_no_credentials(
    run: Run, store: Store, database: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:secret@host:5000/mlflow/")
    code, out, _ = run("report", "demo", "--root", store.root)
    assert code == 0
    assert database == ["https://host:5000/mlflow/"]
    text = Path(out.splitlines()[-1]).read_text()
    assert "secret" not in text
    assert "somebody" not in text
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "secret"
    expected = addresses(store, "https://host:5000/mlflow")
    assert len(expected) == 2
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    (place,) = json.loads(found[1])["places"]
    first = expected[TRIALS[0].id]
    assert [(cell["method"], cell.get("run")) for cell in place["cells"]] == [
        ("dense", None),
        ("csp", first),
        ("magnitude", None),
    ]
    assert [curve.get("run") for curve in place["curves"]] == [first, None]
    ids = dict(re.findall(r'<td><a href="(.*?)" target="_blank" rel="noopener">(\w+)</a></td>', text))
    assert {id: address for address, id in ids.items()} == expected
    assert f"<td>{TRIALS[2].id}</td>" in text
    assert f"cspbench report demo --root {store.root} --mlflow https://host:5000/mlflow</pre>" in text


def test_what_cannot_be_linked_is_said(
    run: Run, store: Store, database: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run("report", "demo", "--root", store.root, "--mlflow", "http://me:secret@host:5000")
    assert code == 2
    assert "--mlflow: a password on the command line" in err
    assert "secret" not in err
    assert database == []
    trial = TRIALS[0]
    finish(store, "other", trial, result(trial, 0.1))
    words = ("report", "other", "--root", store.root)
    code, _, err = run(*words, "--mlflow", "http://host:5000/")
    assert code == 1
    assert "no trial of the study 'other' is logged in MLflow at http://host:5000; `cspbench sync other" in err
    # A server that only the environment names does not stop the report.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    code, out, err = run(*words)
    assert code == 0
    assert "the page gets no links to MLflow: no trial of the study 'other'" in err
    assert "http://" not in Path(out.splitlines()[-1]).read_text()


def test_a_server_that_is_gone_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.open_client(store)

    def gone(name: str) -> None:
        raise MlflowException("connection refused\nand more")

    monkeypatch.setattr(client, "get_experiment_by_name", gone)
    with pytest.raises(ResultsError, match=r"^MLflow at http://host:5000 cannot be read: connection refused$"):
        run_links(client, "demo", "http://host:5000")


def test_only_servers_are_linked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert linked_server(None) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert linked_server(None) is None
    assert linked_server("http://host:5000") == "http://host:5000"


@needs_chromium
def test_a_click_opens_the_run_in_a_tab_of_its_own(store: Store, tmp_path: Path) -> None:
    frame = load_results("demo", store)
    links = run_links(tracking.open_client(store), "demo", "http://127.0.0.1:9")  # where nothing listens
    path = tmp_path / "page.html"
    path.write_text(html_page("demo", store, frame, summary(frame), links), encoding="utf-8")
    first, second = (links.runs[trial.id] for trial in TRIALS[:2])
    with browser(tmp_path / "profile") as tab:
        tab.resize(1280)
        tab.open(path.as_uri())
        mark = "document.querySelector('figure svg path.mark[aria-label^=\"csp at 90\"]')"
        tab.wait(f"{mark} !== null", 20)
        tab.hover(*tab.middle(mark))
        shown = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
        assert tab.wait(shown, 20).endswith("\nclick: the run in MLflow")
        assert {url.split(":")[0] for url in tab.requests} <= {"file", "data"}
        assert not any(url.startswith("http") for url in tab.tabs())
        tab.click(*tab.middle(mark))
        tab.click(*tab.middle(f"document.querySelector('#all a[href=\"{second}\"]')"))
        for _ in range(100):  # each a round trip to the browser, which opens tabs by and by
            if len(opened := {url for url in tab.tabs() if url.startswith("http")}) == 2:
                break
            time.sleep(0.1)
        assert opened == {first, second}
        assert tab.js("location.href") == path.as_uri()
        assert tab.errors == []

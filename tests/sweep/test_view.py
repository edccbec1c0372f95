"""The view of a study in MLflow's UI: its link opened in a browser on the real server."""

from __future__ import annotations

from pathlib import Path

from support.browser import Page, browser, needs_chromium
from support.fake_studies import result, spec
from support.ui import ui

from cspbench.store import Store
from cspbench.sweep.tracking import Tracker, open_client
from cspbench.sweep.view import TAG, share_view, share_views
from cspbench.trials.outcome import Outcome

EXPECTED_404 = "mlflow/users/current"
"""What MLflow's own page asks for and its server does not have."""


def logged_study(store: Store, name: str = "demo") -> None:
    """Log three trials, the best of them last."""
    tracker = Tracker(open_client(store), store, name, {"a": 1})
    for method, wer in (("magnitude", 0.3), ("movement", 0.2), ("csp", 0.1)):
        trial = spec(method)
        tracker.log(Outcome(trial, result(trial, wer)))
    tracker.finish("FINISHED")


def rows(page: Page) -> list[str]:
    """Names of the runs in the table, from the top."""
    place = "+e.closest('.ag-row').getAttribute('row-index')"
    found = page.js(f"[...document.querySelectorAll('.ag-row a')].map(e => [{place}, e.innerText])")
    return [text for _, text in sorted(found) if "seed" in text]


@needs_chromium
def test_the_link_opens_the_trials_best_first_with_their_charts(store: Store, tmp_path: Path) -> None:
    logged_study(store)
    with ui(store) as address, browser(tmp_path / "profile") as page:
        page.resize(1600, 1200)
        page.open(address)
        page.wait("document.body.innerText.includes('magnitude-0.9-seed0')")
        # The dense model, which the trials started from, stands among them.
        assert rows(page) == ["dense-seed0", "csp-0.9-seed0", "movement-0.9-seed0", "magnitude-0.9-seed0"]
        shown = page.text()
        for column in ("method", "sparsity", "test_wer", "size_bytes", "latency_ms"):
            assert column in shown
        page.js("location.href += '&compareRunsMode=CHART'")
        page.wait("document.querySelectorAll('.scatterlayer .point').length >= 9")  # three charts of three runs
        page.wait("document.body.innerText.includes('Parallel Coordinates')")
        assert [error for error in page.errors if EXPECTED_404 not in error] == []
        assert [r for r in page.requests if not r.startswith(("http://127.0.0.1", "data:", "blob:"))] == []


def test_every_study_has_a_view_of_its_last_sweep(store: Store) -> None:
    logged_study(store)
    client = open_client(store)
    experiment = client.get_experiment_by_name("demo").experiment_id
    first = client.get_experiment(experiment).tags[TAG]
    assert share_views(client) == {
        "demo": f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey=study"
    }
    Tracker(client, store, "demo", {"a": 2})
    assert client.get_experiment(experiment).tags[TAG] != first
    assert share_view(client, "other") is None


def test_results_logged_by_an_earlier_version_are_sorted_by_the_name_they_have(store: Store) -> None:
    client = open_client(store)
    tracker = Tracker(client, store, "demo", {"a": 1})
    tags = {"cspbench.kind": "trial", "cspbench.content": client.get_run(tracker.parent).data.tags["cspbench.content"]}
    experiment = client.get_experiment_by_name("demo").experiment_id
    client.log_metric(client.create_run(experiment, tags=tags).info.run_id, "wer", 0.1)
    share_view(client, "demo")
    assert '"orderByKey":"metrics.`wer`"' in client.get_experiment(experiment).tags[TAG]

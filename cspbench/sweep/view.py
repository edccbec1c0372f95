"""A study as MLflow's UI opens it: the shared view of its runs, and the address of that view.

MLflow keeps a view that was shared as JSON in a tag of the experiment, and opens it from a link that names the tag.
The keys below are those of its UI, version 3.17; a test opens the link in a browser.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cspbench.sweep.notes import CONTENT, KIND

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "study"
"""Name of the view."""

TAG = f"mlflow.sharedViewState.{KEY}"
_CHARTS = "WER, latency and size"
_FOLDED = ("curve", "steps", "layer_sparsity", "Model metrics", "System metrics")
"""Sections of charts that MLflow makes of all other metrics: there, but closed."""


def share_views(client: MlflowClient) -> dict[str, str]:
    """Write the views of all studies; return their addresses by name, the study logged last first."""
    names = [found.name for found in client.search_experiments(order_by=["last_update_time DESC"])]
    paths = {name: share_view(client, name) for name in names}
    return {name: path for name, path in paths.items() if path is not None}


def share_view(client: MlflowClient, name: str) -> str | None:
    """Write the view of a study: all runs of its last sweep but the parent, best test WER first, and their charts.

    Args:
        client: of the database.
        name: of the study.

    Returns:
        The address of the view, from the server's root; None if nothing of the study is logged.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return None
    id = experiment.experiment_id
    kind = f"tags.`{KIND}`"
    parents = client.search_runs([id], f"{kind} = 'sweep'", max_results=1, order_by=["attributes.start_time DESC"])
    if not parents:
        return None
    query = f"{kind} != 'sweep' AND tags.`{CONTENT}` = '{parents[0].data.tags[CONTENT]}'"
    # Earlier versions logged the second name alone.
    names = [
        name
        for name in ("test_wer", "wer")
        if client.search_runs([id], f"{query} AND metrics.{name} >= 0", max_results=1)
    ]
    state = json.dumps(view_state(query, *names[:1]), separators=(",", ":"))
    if experiment.tags.get(TAG) != state:
        client.set_experiment_tag(id, TAG, state)
    return f"/#/experiments/{id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


def view_state(query: str, wer: str = "test_wer") -> dict[str, Any]:
    """Return a view as JSON.

    Args:
        query: selects the runs, in MLflow's search syntax.
        wer: metric that they are sorted by and that the charts show.
    """
    params, metrics = ("method", "sparsity"), (wer, "size_bytes", "latency_ms")
    columns = [*(f"params.`{name}`" for name in params), *(f"metrics.`{name}`" for name in metrics)]
    return {
        "searchFilter": query,
        "orderByKey": f"metrics.`{wer}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns, 88),
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [_section(_CHARTS, display=True), *(_section(name, display=False) for name in _FOLDED)],
        "compareRunCharts": [
            *(_scatter(across, wer) for across in ("latency_ms", "size_bytes", "sparsity")),
            _chart(
                "PARALLEL",
                "parallel",
                selectedParams=list(params),
                selectedMetrics=["size_bytes", "latency_ms", wer],
                showAllRuns=True,
            ),
        ],
    }


def _section(name: str, display: bool) -> dict[str, Any]:
    return {
        "uuid": name,
        "name": name,
        "display": display,
        "columns": 2,
        "isReordered": False,
        "deleted": False,
        "isGenerated": not display,
    }


def _chart(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    shared = {"uuid": name, "type": kind, "metricSectionId": _CHARTS, "deleted": False, "isGenerated": False}
    return shared | {"runsCountToCompare": 100} | fields


def _scatter(across: str, upwards: str) -> dict[str, Any]:
    axes = {name: {"key": key, "type": "METRIC"} for name, key in (("xaxis", across), ("yaxis", upwards))}
    return _chart("SCATTER", f"{upwards}-{across}", **axes)

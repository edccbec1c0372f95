"""The notebooks run from top to bottom on a study and on a comparison, and show what these hold."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jupytext
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from safetensors.numpy import save_file
from support.fake_finals import Finals
from support.fake_studies import record, spec, write_study

from cspbench.comparison.report import evaluate_finals, write_evaluation
from cspbench.store import Store, write_atomic

NOTEBOOK = Path(__file__).resolve().parent.parent / "analysis" / "pareto.py"


def execute(folder, monkeypatch, path=NOTEBOOK):
    """Run a notebook in `folder`, on its ``runs``."""
    monkeypatch.setenv("CSPBENCH_STUDY", "demo")
    monkeypatch.delenv("CSPBENCH_ROOT", raising=False)
    notebook = jupytext.read(path)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute()


def outputs(notebook, kind):
    """All outputs of a MIME type, in order."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    return [item[kind] for item in data if kind in item]


def table(notebook, column):
    """The first table that has a column, as text."""
    for html in outputs(notebook, "text/html"):
        found = re.search(r"<table.*</table>", html, re.DOTALL)
        if found:
            head, *body = ET.fromstring(found.group()).iter("tr")
            columns = ["".join(cell.itertext()) for cell in head]
            if column in columns:
                return pd.DataFrame([["".join(cell.itertext()) for cell in row] for row in body], columns=columns)
    raise AssertionError(f"no table has a column {column}")


def test_the_notebook_shows_a_study(tmp_path, monkeypatch):
    store = write_study(tmp_path / "runs", synthetic=True)
    record(store, "demo", spec("lottery", 0.99), "failed", "boom")
    notebook = execute(tmp_path, monkeypatch)
    assert len(outputs(notebook, "image/png")) == 5
    printed = "".join(o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "stream")
    assert "demo: fsdd (synthetic speech)" in printed

    cells = table(notebook, "test WER %")
    assert cells["method"].value_counts().to_dict() == {
        "lottery": 4,
        "csp": 3,
        "magnitude": 3,
        "movement": 3,
        "dense": 1,
    }
    assert cells.query("method == 'dense'")["test WER %"].tolist() == ["2.0 [1.4, 2.6]"]
    assert set(table(notebook, "wer_vs_latency")["method"]) == {"dense", "csp"}

    significance = table(notebook, "95 % interval")
    assert significance["sparsity %"].tolist() == ["50.0", "75.0", "90.0"]
    assert (significance["difference"].astype(float) < 0).all()
    assert float(significance["p"].iloc[-1]) < 0.05

    worst = table(notebook, "csp edits")
    assert worst["csp edits"].astype(int).is_monotonic_decreasing
    assert worst["reference"].str.startswith("one two").all()


def test_a_study_without_the_compared_methods_still_runs(tmp_path, monkeypatch):
    write_study(tmp_path / "runs", methods=["lottery"], sparsities=[0.5], seeds=[0])
    notebook = execute(tmp_path, monkeypatch)
    assert len(outputs(notebook, "image/png")) == 4
    assert "lottery edits" in table(notebook, "lottery edits").columns


def test_the_notebook_of_a_comparison_shows_it(tmp_path, monkeypatch):
    finals = Finals().fill({"csp": 0.05, "magnitude": 0.12, "lottery": 0.11, "set": 0.2})
    finals.fill({"csp_post": 0.2, "wanda": 0.4}, steps=0)
    write_evaluation(evaluate_finals(finals.frame, finals.hypotheses, resamples=200), tmp_path / "compare")
    for trial in ("an4-None-csp-0.9-1", "an4-None-lottery-0.9-1"):
        heard = finals.heard[trial].assign(hypothesis=f"heard by {trial}")
        path = Store(tmp_path / "runs").trial(trial).hypotheses
        write_atomic(path, heard.to_json(orient="records", lines=True))
    monkeypatch.delenv("CSPBENCH_COMPARISON", raising=False)
    notebook = execute(tmp_path, monkeypatch, NOTEBOOK.with_name("compare.py"))
    printed = "".join(o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "stream")
    assert "csp against 4 methods: 36 of 36 trials finished" in printed
    assert "8 tests made again from compare/errors.csv: they agree" in printed
    verdicts = table(notebook, "best rival")
    assert verdicts["sparsity"].tolist() == ["50 %", "90 %"] * 2  # trained, then post-training
    assert verdicts["verdict"].str.startswith("better").all()  # five speakers cannot show significance
    order = ["csp", "lottery", "magnitude", "set", "csp_post", "wanda"]
    assert table(notebook, "same_dense")["method"].tolist() == order
    assert table(notebook, "reference")["lottery"].tolist() == ["heard by an4-None-lottery-0.9-1"] * 8
    assert len(outputs(notebook, "image/png")) == 3 + 2


def test_csp_under_the_microscope(tmp_path, monkeypatch):
    store = write_study(tmp_path / "runs", methods=["csp", "magnitude"], sparsities=[0.5, 0.9], seeds=[0])
    rng = np.random.default_rng(0)
    for trial in store.root.glob("trials/*"):
        layers = dict.fromkeys(("encoder.weight_ih_l0", "joint.output.weight"), (rng.random((20, 20)) < 0.1))
        save_file({name: kept.astype(np.float32) for name, kept in layers.items()}, trial / "model.safetensors")
    notebook = execute(tmp_path, monkeypatch, NOTEBOOK.with_name("csp.py"))
    assert len(outputs(notebook, "image/png")) == 4
    overlap = table(notebook, "of csp's also magnitude's %")
    assert overlap["layer"].tolist() == ["encoder.weight_ih_l0", "joint.output.weight"]
    assert overlap["kept by csp %"].astype(float).between(5, 15).all()


def test_two_sweeps_are_compared_from_two_folders(tmp_path, monkeypatch):
    write_study(tmp_path / "a", "first", methods=["csp", "magnitude"], sparsities=[0.9], seeds=[0])
    write_study(tmp_path / "b", "second", methods=["csp"], sparsities=[0.5, 0.9], seeds=[0, 1])
    monkeypatch.setenv("CSPBENCH_BEFORE", str(tmp_path / "a"))
    monkeypatch.setenv("CSPBENCH_AFTER", str(tmp_path / "b" / "studies" / "second"))
    notebook = execute(tmp_path, monkeypatch, NOTEBOOK.with_name("two_sweeps.py"))
    tests = table(notebook, "after − before")
    assert tests[["method", "sparsity %"]].to_numpy().tolist() == [["csp", "90.0"]]
    assert len(outputs(notebook, "image/png")) == 1


def test_a_method_of_ones_own_reaches_its_sparsity(tmp_path, monkeypatch):
    notebook = execute(tmp_path, monkeypatch, NOTEBOOK.with_name("own_method.py"))
    rows = table(notebook, "zeros of the layers")
    assert rows["method"].tolist() == ["fair_rows", "magnitude", "random"] * 3
    errors = rows["error"].astype(float).groupby(rows["method"]).mean()
    assert errors["fair_rows"] < errors["random"]


def test_a_model_of_ones_own_is_pruned_packed_and_timed(tmp_path, monkeypatch):
    notebook = execute(tmp_path, monkeypatch, NOTEBOOK.with_name("own_model.py"))
    rows = table(notebook, "wrong %")
    assert rows["method"].tolist() == ["csp", "magnitude", "random"]
    assert rows["zeros %"].tolist() == ["95.0"] * 3
    assert rows["wrong %"].astype(float).is_monotonic_increasing
    printed = "".join(o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "stream")
    assert re.search(r"packed: \d+\.\d times as fast as torch; quiet: (True|False)", printed)


@pytest.mark.parametrize("path", sorted(NOTEBOOK.parent.glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_notebooks_are_those_of_the_sources_with_outputs(path):
    """Made anew by `jupytext --to notebook --execute`; small enough for a repository."""
    committed, source = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [cell.source for cell in committed.cells] == [cell.source for cell in source.cells]
    assert any(cell.get("outputs") for cell in committed.cells)
    assert not any(output.output_type == "error" for cell in committed.cells for output in cell.get("outputs", []))
    assert path.stat().st_size < 500_000

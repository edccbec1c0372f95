"""Model cards: every number with what it needs to be understood, and nothing that is not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.packed_models import pruned, trained

from cspbench.errors import FileAccessError
from cspbench.report.card import facts_of, write_card

DATA = Path(__file__).resolve().parents[1] / "data" / "runs_v1"
TRIAL = DATA / "trials" / "858e4cbb85e9b241"


def card(tmp_path: Path, model: Path, licence: str | None = None) -> str:
    part = tmp_path / "m.encoder.onnx"
    part.write_bytes(b"12345")
    recogniser = trained(pruned(0.9), corpus="an|4")
    write_card(tmp_path / "m.card.md", "m", recogniser, [part], facts_of(model), licence=licence)
    return (tmp_path / "m.card.md").read_text(encoding="utf-8")


def test_a_trial_has_its_errors_with_intervals_and_its_latency_with_the_protocol(tmp_path: Path) -> None:
    text = card(tmp_path, TRIAL, licence="CC-BY-4.0")
    result = json.loads((TRIAL / "result.json").read_text())
    assert "| test | 100.00% | 100.00% to 100.00% | 35 | 12 |" in text
    assert "| test, before pruning | 100.00% |" in text
    assert f"| packed | {result['latency']['packed']['median_ms']:.4g} |" in text
    for key in result["latency"]["protocol"]:
        assert f"| {key} |" in text
    assert "of them zero. It takes speech of" in text
    assert "| m.encoder.onnx | 5 |" in text
    assert "## Licence\n\nCC-BY-4.0\n" in text
    assert "| corpus | an\\|4 |" in text


def test_a_dense_recogniser_has_its_errors(tmp_path: Path) -> None:
    result = json.loads((TRIAL / "result.json").read_text())
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / "result.json").write_text(json.dumps({"dev": result["dev"], "test": result["test"]}))
    text = card(tmp_path, tmp_path / "dense")
    assert "| dev | 100.00% | 100.00% to 100.00% | 23 | 8 |" in text
    assert text.count("Not known: there is no result") == 1


def test_what_is_not_known_is_said_and_a_damaged_result_refused(tmp_path: Path) -> None:
    text = card(tmp_path, tmp_path / "model.packed.safetensors")
    assert text.count("Not known: there is no result") == 2
    assert "## Licence\n\nNot stated." in text
    for damaged in ("{", "{}"):
        (tmp_path / "result.json").write_text(damaged)
        with pytest.raises(FileAccessError, match=r"result\.json is"):
            facts_of(tmp_path)

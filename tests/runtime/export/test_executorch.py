"""The real ExecuTorch runs what is exported and finds our labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support import talkative_model
from support.small_recognisers import untrained

from cspbench.asr.decoding import greedy
from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS
from cspbench.asr.trained import TrainedModel
from cspbench.runtime.export.executorch_export import ExecuTorchTransducer, check_executorch, export_executorch
from cspbench.runtime.export.files import ExportError
from cspbench.training.checkpoint import save_model


def stateless() -> TrainedModel:
    """An untrained recogniser with a stateless prediction network that emits labels."""
    return untrained("stateless_transducer", talkative_model.FEATURES, talkative_model.TOKENIZER, scale=3)


def test_other_recognisers_are_refused(tmp_path: Path) -> None:
    other = untrained("lstm_ctc", talkative_model.FEATURES, talkative_model.TOKENIZER)
    with pytest.raises(ExportError, match="takes 'lstm_transducer' and 'stateless_transducer', not 'lstm_ctc'"):
        export_executorch(other, tmp_path / "m.pte")


def greedy_labels(program: ExecuTorchTransducer, features: np.ndarray) -> list[int]:
    """Labels of features (T, C), by the networks of a program."""
    labels: list[int] = []
    predicted = program.run("predict", torch.tensor([[BLANK]]))
    for frame in torch.from_numpy(features):
        encoded = program.run("encode", frame[None, None])
        for _ in range(MAX_SYMBOLS):
            best = int(program.joint(encoded, predicted).argmax())
            if best == BLANK:
                break
            labels.append(best)
            predicted = program.run("predict", torch.tensor([[best]]))
    return labels


@pytest.mark.timeout(900)  # ExecuTorch compiles for 10 s on an idle processor
@pytest.mark.parametrize("name", ["lstm_transducer", "stateless_transducer"])
def test_executorch_finds_our_labels(name: str, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    pytest.importorskip("executorch", reason="EXECUTORCH ABSENT: pip install 'cspbench[executorch]'")
    made = stateless() if name == "stateless_transducer" else talkative_model.trained(talkative_model.talkative())
    save_model(tmp_path / "t", made)
    code, out, err = run("export", tmp_path / "t", tmp_path / "m.pte", "--to", "executorch", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["parts"][0]["difference"] < 1e-5
    assert "## Word errors" in Path(found["card"]).read_text(encoding="utf-8")

    program = ExecuTorchTransducer(tmp_path / "m.pte")
    assert program.facts()["tokenizer"] == made.tokenizer.state()
    spread = np.random.default_rng(0).normal(10, 3, (40, made.features.mels * made.features.stack))
    features = spread.astype(np.float32)
    ours = greedy(made.model, made.model.normalise(torch.from_numpy(features)[None]), torch.tensor([len(features)]))[0]
    assert greedy_labels(program, features) == ours
    assert len(set(ours)) > 1

    with torch.no_grad():
        made.model.get_parameter("joint_output.weight").mul_(1.1)
    with pytest.raises(ExportError, match="ExecuTorch computes otherwise than torch: joint differs by"):
        check_executorch(made, tmp_path / "m.pte")

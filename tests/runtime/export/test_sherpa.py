"""The real sherpa-onnx loads what is exported and spells what we spell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.packed_models import trained as packed_trained
from support.small_recognisers import talkative_lstm, talkative_stateless, untrained

from cspbench.asr.decoding import greedy
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.tokenizer import CharacterTokenizer, Tokenizer, train_tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.corpora.audio import read_audio
from cspbench.corpora.features import model_inputs
from cspbench.spec import FeatureSpec, TokenizerSpec
from cspbench.training.checkpoint import save_model

onnx = pytest.importorskip("onnx")
sherpa_onnx = pytest.importorskip("sherpa_onnx")

from cspbench.runtime.export.files import ExportError  # noqa: E402
from cspbench.runtime.export.sherpa_export import (  # noqa: E402
    check_sherpa,
    export_sherpa,
    recognizer_options,
    tail_seconds,
)

RATE = 16_000
LETTERS = CharacterTokenizer(" ABCDEFGHIJK")
FRONT_ENDS = {
    "default": FeatureSpec(),
    "80 mels that follow the background": FeatureSpec(mels=80, stack=2, level_follows_background=True),
    "absolute": FeatureSpec(floor=None, level_fall=None, stack=4, flush_ms=0),
}

Talkative = Callable[[FeatureSpec, Tokenizer], TrainedModel]
TALKATIVE = [talkative_stateless, talkative_lstm]


def our_labels(trained: TrainedModel, samples: np.ndarray) -> list[int]:
    features = torch.from_numpy(model_inputs(samples, trained.features, RATE))
    return greedy(trained.model, trained.model.normalise(features[None]), torch.tensor([len(features)]))[0]


def their_units(recognizer: Any, utterances: list[np.ndarray], tail: float) -> list[list[str]]:
    """Units that sherpa-onnx emits for utterances that are decoded together, each followed by `tail` s of silence."""
    streams = [recognizer.create_stream() for _ in utterances]
    for stream, samples in zip(streams, utterances, strict=True):
        stream.accept_waveform(RATE, samples)
        stream.accept_waveform(RATE, np.zeros(round(RATE * tail), np.float32))
        stream.input_finished()
    while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
        recognizer.decode_streams(ready)
    return [recognizer.tokens(stream) for stream in streams]


def loaded(trained: TrainedModel, paths: dict[str, Path]) -> Any:
    """The recogniser in sherpa-onnx."""
    files = {part: str(path) for part, path in paths.items()}
    return sherpa_onnx.OnlineRecognizer.from_transducer(**files, num_threads=1, **recognizer_options(trained))


def sounds() -> list[np.ndarray]:
    """Bursts of tones of different pitch and level, with pauses between them."""
    rng = np.random.default_rng(0)
    made = []
    for length in (9000, 14_000, 20_003):
        time = np.arange(length) / RATE
        tone = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 4000, 3)) * (np.sin(9 * time) > 0)
        made.append((0.1 * tone + 0.003 * rng.standard_normal(length)).astype(np.float32))
    return made


def assert_same_units(trained: TrainedModel, paths: dict[str, Path], utterances: list[np.ndarray]) -> None:
    ours = [our_labels(trained, samples) for samples in utterances]
    theirs = their_units(loaded(trained, paths), utterances, tail_seconds(trained))
    assert theirs == [[trained.tokenizer.decode_more([i], "before") for i in labels] for labels in ours]
    assert len({tuple(labels) for labels in ours}) == len(ours)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("talkative", TALKATIVE)
@pytest.mark.parametrize("features", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_sherpa_onnx_spells_sounds_as_we_do(
    features: FeatureSpec, talkative: Talkative, sparse: bool, tmp_path: Path
) -> None:
    trained = talkative(features, LETTERS)
    paths = export_sherpa(trained, tmp_path / "m", sparse=sparse)
    assert max(check_sherpa(trained, tmp_path / "m").values()) < 1e-4
    assert_same_units(trained, paths, sounds())


@pytest.mark.parametrize("talkative", TALKATIVE)
@pytest.mark.parametrize("features", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_sherpa_onnx_spells_real_speech_as_we_do(
    features: FeatureSpec, talkative: Talkative, an4_path: Path, tmp_path: Path
) -> None:
    trained = talkative(features, LETTERS)
    paths = export_sherpa(trained, tmp_path / "m")
    lines = (an4_path / "manifest.jsonl").read_text().splitlines()[:6]
    assert_same_units(trained, paths, [read_audio(an4_path / json.loads(line)["audio"])[0] for line in lines])


def test_word_pieces_keep_their_spaces(tmp_path: Path) -> None:
    texts = ["one two three four five", "five four three", "two one four", "three five two one"]
    pieces = train_tokenizer(TokenizerSpec(kind="sentencepiece", vocab_size=18), texts)
    trained, samples = talkative_stateless(FeatureSpec(), pieces), sounds()[-1]
    paths = export_sherpa(trained, tmp_path / "m")
    assert paths["tokens"].read_text(encoding="utf-8").splitlines()[0] == "<blk> 0"
    units = their_units(loaded(trained, paths), [samples], tail_seconds(trained))[0]
    assert "".join(units).lstrip(" ") == pieces.decode(our_labels(trained, samples))
    assert any(unit.startswith(" ") for unit in units)


def test_the_card_says_how_to_load_the_folder(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = talkative_stateless(FeatureSpec(), LETTERS)
    save_model(tmp_path / "t", trained)
    code, out, _ = run("export", tmp_path / "t", tmp_path / "m", "--to", "sherpa-onnx", "--licence", "MIT", "--json")
    assert code == 0
    found = json.loads(out)
    assert [part["part"] for part in found["parts"]] == ["encoder", "decoder", "joiner", "tokens"]
    assert found["card"] == str(tmp_path / "m" / "README.md")
    card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# m\n\n`stateless_transducer`: LSTM encoder")
    for section in ("Data", "Word errors", "Sparsity", "Latency", "Licence\n\nMIT"):
        assert f"\n## {section}\n" in card
    monkeypatch.chdir(tmp_path / "m")
    names: dict[str, Any] = {"sherpa_onnx": sherpa_onnx}
    exec(re.search(r"```python\n(.*?)```", card, re.S)[1], names)  # type: ignore[index]
    tail = float(re.search(r"Let ([\d.]+) s of zeros", card)[1])  # type: ignore[index]
    units = their_units(names["recognizer"], [sounds()[0]], tail)[0]
    assert "".join(units) == LETTERS.decode(our_labels(trained, sounds()[0]))


@pytest.mark.parametrize(
    ("talkative", "weight"),
    [
        (talkative_stateless, "encoder.layers.0.weight_hh_l0"),
        (talkative_lstm, "encoder.layers.0.weight_hh_l0"),
        (talkative_lstm, "prediction.layers.1.weight_hh_l0"),
    ],
)
def test_a_difference_from_torch_does_not_pass(talkative: Talkative, weight: str, tmp_path: Path) -> None:
    trained = talkative(FeatureSpec(), LETTERS)
    export_sherpa(trained, tmp_path / "m")
    with torch.no_grad():
        trained.model.get_parameter(weight).mul_(1.1)
    with pytest.raises(ExportError, match="encoder differs by"):
        check_sherpa(trained, tmp_path / "m")


def test_a_prediction_network_that_noise_does_not_wake_is_checked(tmp_path: Path) -> None:
    trained = talkative_lstm(FeatureSpec(), LETTERS)
    with torch.no_grad():
        trained.model.get_parameter("joint_output.bias")[0] = 100
    export_sherpa(trained, tmp_path / "m")
    with torch.no_grad():
        trained.model.get_parameter("prediction.layers.1.weight_hh_l0").mul_(1.1)
    with pytest.raises(ExportError, match="encoder differs by"):
        check_sherpa(trained, tmp_path / "m")


def test_recognisers_and_front_ends_that_sherpa_onnx_cannot_have_are_refused(tmp_path: Path) -> None:
    other = untrained("conformer_transducer", FeatureSpec(), LETTERS)
    refused = {
        "'stateless_transducer', not 'conformer_transducer'": other,
        "this recogniser has 32, 40 and 20": packed_trained(LSTMTransducer(Shape(24, 7, 2, 32, 1, 40, 20), mels=8)),
        "every 10 ms; this recogniser was trained on frames of 32 ms": talkative_stateless(
            FeatureSpec(window_ms=32), LETTERS
        ),
        "every 12.5 ms": talkative_stateless(FeatureSpec(hop_ms=12.5), LETTERS),
    }
    for message, trained in refused.items():
        with pytest.raises(ExportError, match=re.escape(message)):
            export_sherpa(trained, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("letters", "message"),
    [("ab\u2581", "cannot spell the unit '\u2581'"), ("a\tb", "cannot spell"), ("a\u0199", "for bytes")],
)
def test_units_that_sherpa_onnx_would_spell_otherwise_are_refused(letters: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=re.escape(message)):
        export_sherpa(talkative_stateless(FeatureSpec(), CharacterTokenizer(letters)), tmp_path / "m")


def test_what_the_command_cannot_do_is_said(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    save_model(tmp_path / "t", talkative_stateless(FeatureSpec(), LETTERS))
    (tmp_path / "file").touch()
    to = ("--to", "sherpa-onnx")
    refused = {
        "is no folder; name another": ("export", tmp_path / "t", tmp_path / "file", *to),
        "there is no folder": ("export", tmp_path / "t", tmp_path / "no" / "m", *to),
        "--values is for --to onnx; leave it out": ("export", tmp_path / "t", tmp_path / "m", *to, "--values", "int8"),
        "'stateless_transducer' has no packed file": ("export", tmp_path / "t", tmp_path / "m.onnx"),
    }
    for message, words in refused.items():
        code, out, err = run(*words)
        assert (code != 0, out) == (True, "")
        assert message in err

"""The native engine beside torch, numpy and kaldi-native-fbank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cspbench.corpora import load_corpus
from cspbench.corpora.audio import read_audio
from cspbench.corpora.features import log_mel
from cspbench.runtime.recogniser import native_front_end
from cspbench.spec import CorpusSpec, FeatureSpec

native = pytest.importorskip("cspbench.runtime._native", reason="the native module is not built here")

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


@pytest.fixture(params=native.instruction_sets(), autouse=True)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.current()
    native.use(request.param)
    yield request.param
    native.use(before)


# ---- activations

ACTIVATIONS = {
    "exponential": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "logarithm": np.log,
}


def every_magnitude(step: int = 40_009) -> np.ndarray:
    """Finite floats of both signs from everywhere in the range."""
    values = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return values[np.isfinite(values)]


@pytest.mark.parametrize(("name", "units"), [("exponential", 2.0), ("sigmoid", 2.5), ("tanh", 3.0), ("logarithm", 1.0)])
def test_activations_are_accurate_to_a_few_units_in_the_last_place(name: str, units: float) -> None:
    x = every_magnitude()
    if name == "logarithm":
        x = x[x >= SMALLEST_NORMAL]
    with np.errstate(over="ignore"):
        exact = ACTIVATIONS[name](x.astype(np.float64))
    got = native.elementwise(name, x).astype(np.float64)
    usual = (np.abs(exact) >= SMALLEST_NORMAL) & (np.abs(exact) <= np.finfo(np.float32).max)
    error = np.abs(got[usual] - exact[usual]) / np.spacing(np.abs(exact[usual]).astype(np.float32))
    assert error.max() <= units
    assert (np.abs(got[exact > np.finfo(np.float32).max]) == np.inf).all()
    assert (np.abs(got[np.abs(exact) < SMALLEST_NORMAL]) <= SMALLEST_NORMAL).all()


def test_activations_saturate_exactly_and_pass_nan_on() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 200.0, -200.0, 0.0, -0.0], np.float32)
    expected = {
        "exponential": [np.nan, np.inf, 0, np.inf, 0, 1, 1],
        "sigmoid": [np.nan, 1, 0, 1, 0, 0.5, 0.5],
        "tanh": [np.nan, 1, -1, 1, -1, 0, -0.0],
    }
    for name, values in expected.items():
        got = native.elementwise(name, x)
        np.testing.assert_array_equal(got, np.array(values, np.float32), err_msg=name)
    assert np.signbit(native.elementwise("tanh", x)[-2:]).tolist() == [False, True]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_instruction_set_computes_the_same_bits(name: str, instruction_set: str) -> None:
    x = every_magnitude(1_000_003)
    got = native.elementwise(name, x)
    native.use("portable")
    np.testing.assert_array_equal(got.view(np.uint32), native.elementwise(name, x).view(np.uint32))


# ---- LSTM

Layers = list[tuple[object, np.ndarray]]


def make_lstm(inputs: int, width: int, layers: int, seed: int, gain: float = 1.0) -> nn.LSTM:
    torch.manual_seed(seed)
    lstm = nn.LSTM(inputs, width, layers, batch_first=True)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.mul_(gain)
    return lstm


def layers_of(lstm: nn.LSTM, format: str = "dense", values: str = "fp32") -> Layers:
    own = {name: p.detach().numpy() for name, p in lstm.named_parameters()}
    return [
        (
            native.Matrix.pack(
                np.concatenate([own[f"weight_ih_l{i}"], own[f"weight_hh_l{i}"]], axis=1), format, values
            ),
            own[f"bias_ih_l{i}"] + own[f"bias_hh_l{i}"],
        )
        for i in range(lstm.num_layers)
    ]


@given(
    inputs=st.integers(1, 130),
    width=st.integers(1, 70),
    layers=st.integers(1, 3),
    gain=st.sampled_from([0.5, 1.0, 4.0]),
    format=st.sampled_from(["dense", "bitmap", "csr16", "csr8", "block", "nm", "window"]),
    seed=st.integers(0, 1000),
)
def test_lstm_agrees_with_torch(inputs: int, width: int, layers: int, gain: float, format: str, seed: int) -> None:
    lstm = make_lstm(inputs, width, layers, seed, gain)
    if format == "nm":  # at most 2 of 4 are taken
        format = "bitmap"
    x = torch.randn(8, inputs)
    with torch.no_grad():
        expected = lstm(x[None])[0][0].numpy()
    got = native.Lstm(layers_of(lstm, format)).run(x.numpy())
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * max(1.0, gain**3))


def test_lstm_keeps_its_state_between_steps_until_reset() -> None:
    engine = native.Lstm(layers_of(make_lstm(12, 20, 2, seed=1)))
    x = np.random.default_rng(0).standard_normal((9, 12)).astype(np.float32)
    together = engine.run(x)
    assert not np.array_equal(engine.step(x[0]), together[0])
    engine.reset()
    np.testing.assert_array_equal(np.stack([engine.step(row) for row in x]), together)


def test_threads_change_nothing() -> None:
    layers = layers_of(make_lstm(40, 64, 2, seed=2), "csr16")
    x = np.random.default_rng(0).standard_normal((20, 40)).astype(np.float32)
    np.testing.assert_array_equal(native.Lstm(layers, threads=3).run(x), native.Lstm(layers).run(x))


def test_times_are_taken_of_every_step() -> None:
    engine = native.Lstm(layers_of(make_lstm(12, 20, 1, seed=1)))
    for evict in (0, 1 << 20):
        times = engine.time(7, evict, 3)
        assert times.shape == (7,)
        assert (times > 0).all()


def test_lstm_that_does_not_fit_is_refused() -> None:
    matrix, bias = layers_of(make_lstm(12, 20, 1, seed=1))[0]
    with pytest.raises(ValueError, match="at least one layer"):
        native.Lstm([])
    with pytest.raises(ValueError, match="bias of layer 0 has 79 values"):
        native.Lstm([(matrix, bias[:-1])])
    with pytest.raises(ValueError, match="layer 1 takes 12 inputs, the layer before gives 20"):
        native.Lstm([(matrix, bias), (matrix, bias)])
    with pytest.raises(ValueError, match="not finite"):
        native.Lstm([(matrix, np.full(80, np.nan, np.float32))])
    with pytest.raises(ValueError, match=r"x must be \(12,\)"):
        native.Lstm([(matrix, bias)]).step(np.zeros(13, np.float32))
    with pytest.raises(ValueError, match="4 H x"):
        native.Lstm([(native.Matrix.pack(np.ones((80, 20), np.float32), "dense", "fp32"), bias)])


def test_a_network_whose_size_overflows_is_refused() -> None:
    """(2^22 + 1) mel bins in each of 1024 frames are 1024 inputs modulo 2^32."""

    def zeros(rows: int, columns: int) -> tuple[object, np.ndarray]:
        matrix = native.Matrix.pack(np.zeros((rows, columns), np.float32), "dense", "fp32")
        return matrix, np.zeros(rows, np.float32)

    mean = np.zeros(2**22 + 1, np.float32)
    with pytest.raises(ValueError, match="mels x stack"):
        native.make_network(
            encoder=[zeros(4, 1024 + 1)],
            embedding=np.zeros((1, 1), np.float32),
            prediction=[zeros(4, 1 + 1)],
            joint_encoder=zeros(1, 1),
            joint_prediction=zeros(1, 1)[0],
            joint_output=zeros(1, 1),
            mean=mean,
            scale=mean,
            stack=1024,
            front_end=None,
            max_symbols=1,
            blank=0,
        )


def test_denormal_numbers_stay_flushed_inside_the_engine() -> None:
    """A decaying state ends at zero, and the caller's arithmetic is what it was."""
    weight = np.zeros((4, 2), np.float32)
    bias = np.array([-200, -0.5, 0, 200], np.float32)  # nothing enters, the cell decays
    engine = native.Lstm([(native.Matrix.pack(weight, "dense", "fp32"), bias)])
    engine.step(np.zeros(1, np.float32))
    outputs = engine.run(np.zeros((400, 1), np.float32))
    assert not ((np.abs(outputs) > 0) & (np.abs(outputs) < SMALLEST_NORMAL)).any()
    assert np.float32(SMALLEST_NORMAL) * np.float32(0.5) > 0


# ---- front end


def assert_same_features(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-4, where a bin is not so far below the loudest of its frame that it is rounding errors."""
    assert got.shape == expected.shape
    # Relative to the loudest bin, rounding leaves errors of some 1e-10: a bin of e^-10 has its logarithm to 1e-5.
    heard = expected > expected.max(axis=1, keepdims=True) - 14
    assert np.abs(got - expected)[heard].max() <= 1e-4
    loudest = np.exp(expected.max(axis=1, keepdims=True).astype(np.float64))
    assert (np.abs(np.exp(got.astype(np.float64)) - np.exp(expected.astype(np.float64))) / loudest).max() <= 5e-6


@pytest.mark.parametrize(("mels", "floor", "level_fall"), [(20, None, None), (40, 4.0, None), (80, 4.0, 0.01)])
def test_features_of_real_speech_are_kaldis(
    an4_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    mels: int,
    floor: float | None,
    level_fall: float | None,
) -> None:
    corpus = load_corpus(CorpusSpec(name="an4", path=str(an4_path)), tmp_path_factory.mktemp("cache"))
    spec = FeatureSpec(mels=mels, floor=floor, level_fall=level_fall)
    for utterance in corpus.split("test")[:10]:
        samples, rate = read_audio(utterance.audio)
        assert_same_features(native_front_end(spec, rate).frames(samples), log_mel(samples, spec, rate))


def test_a_recording_that_begins_loud_has_the_levels_of_the_training_features() -> None:
    loud, quiet = (scale * np.random.default_rng(0).standard_normal(8000).astype(np.float32) for scale in (0.3, 1e-4))
    samples = np.concatenate([loud, quiet, loud])
    held, following = (FeatureSpec(level_follows_background=on) for on in (False, True))
    for spec in (held, following):
        assert_same_features(native_front_end(spec, 16_000).frames(samples), log_mel(samples, spec, 16_000))
    again = slice(110, None)  # the second loud half: related to itself at once, or to a level that still falls
    difference = log_mel(samples, following, 16_000)[again] - log_mel(samples, held, 16_000)[again]
    assert difference.min() > 5.0


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize(("window_ms", "hop_ms"), [(25.0, 10.0), (32.0, 12.5), (10.0, 20.0), (5.0, 2.0)])
def test_features_of_noise_are_kaldis_at_every_rate(sample_rate: int, window_ms: float, hop_ms: float) -> None:
    spec = FeatureSpec(mels=8, window_ms=window_ms, hop_ms=hop_ms, floor=None, level_fall=None)
    samples = 0.1 * np.random.default_rng(sample_rate).standard_normal(sample_rate // 2).astype(np.float32)
    assert_same_features(native_front_end(spec, sample_rate).frames(samples), log_mel(samples, spec, sample_rate))


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 401, 559, 560])
def test_there_are_as_many_frames_as_whole_windows(samples: int) -> None:
    spec = FeatureSpec(mels=20, level_fall=None)
    x = np.zeros(samples, np.float32)
    got = native_front_end(spec, 16_000).frames(x)
    np.testing.assert_allclose(got, log_mel(x, spec, 16_000), rtol=1e-6)  # silence: the floor, in both


def test_extremes_give_finite_features() -> None:
    x = np.concatenate([np.full(2000, 64.0), np.zeros(2000), np.tile([64.0, -64.0], 1000)]).astype(np.float32)
    assert np.isfinite(native_front_end(FeatureSpec(), 16_000).frames(x)).all()


def test_front_ends_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="reference level falls"):
        native.FrontEnd(16_000, 25.0, 10.0, 40).follow_level(-1.0, 7.0)
    with pytest.raises(ValueError, match="floor must be finite"):
        native.FrontEnd(16_000, 25.0, 10.0, 40, -1.0)
    with pytest.raises(ValueError, match="too many"):
        native.FrontEnd(16_000, 25.0, 10.0, 200)
    with pytest.raises(ValueError, match="windows and hops"):
        native.FrontEnd(16_000, 25.0, 0.0, 40)
    with pytest.raises(ValueError, match="40 Hz"):
        native.FrontEnd(30, 1000.0, 500.0, 1)
    for bad in (float("nan"), float("inf"), -5.0):
        with pytest.raises(ValueError, match="windows and hops"):
            native.FrontEnd(16_000, bad, 10.0, 40)

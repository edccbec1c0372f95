"""``cspbench latency``: a recogniser measured on several engines, under the roof of this machine, estimates apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cspbench.asr.speech_model import prunable_weights
from cspbench.asr.trained import TrainedModel
from cspbench.hyper import Frozen
from cspbench.machine.cpu import machine
from cspbench.result import Latency, Measured, Memory
from cspbench.runtime.latency.audio import Audio
from cspbench.runtime.latency.device import DeviceProfile, estimates
from cspbench.runtime.latency.engines import CUDA, TORCH, check_engines, drive_of, make_engine, packed_for
from cspbench.runtime.latency.measure import measure, quiet_place
from cspbench.runtime.latency.memory import Kind, peak_memory
from cspbench.runtime.latency.roofline import roofline
from cspbench.runtime.packing import PackedModel, open_folder
from cspbench.spec import LatencySpec


class LatencyRun(Frozen):
    """Outcome of `run`.

    Attributes:
        model: what was measured.
        measured: timed and counted on this machine.
        roofline: bytes against measured read bandwidth.
        estimates: for other devices, on paper; one an asked-for profile. Never measured.
    """

    model: dict[str, Any]
    measured: Measured
    roofline: dict[str, Any]
    estimates: list[dict[str, Any]]


def open_recogniser(path: Path) -> tuple[TrainedModel, PackedModel | None]:
    """Open a packed file or a folder that holds a model.

    Returns:
        The recogniser, and the packed file that it came from; None for a folder.

    Raises:
        CspbenchError: neither of these, or one that is damaged.
    """
    if path.is_dir():
        return open_folder(path), None
    packed = PackedModel.load(path)
    return packed.trained(), packed


def run(
    trained: TrainedModel,
    names: Sequence[str],
    audio: Audio,
    spec: LatencySpec,
    profiles: Sequence[DeviceProfile] = (),
    memory: bool = True,
    packed: PackedModel | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> LatencyRun:
    """Measure a recogniser on some engines.

    Args:
        trained: the recogniser.
        names: of `cspbench.runtime.latency.engines.ENGINES`; ratios are those of earlier ones over later ones.
        audio: what is streamed.
        spec: threads, warm-up and repetitions.
        profiles: devices to estimate for.
        memory: measure the peak memory of each engine in its own process (some seconds each); recognisers with packed
            files only.
        packed: the packed file it came from, if any; see `make_engine`.
        progress: called with status lines.

    Raises:
        CspbenchError: engines that cannot run here.
    """
    check_engines(names, trained)
    with quiet_place(spec.threads) as place:
        progress("packing")
        engines = [make_engine(name, trained, spec.threads, packed) for name in names]
        progress(f"measuring {', '.join(names)}")
        measured = measure(engines, audio.utterances, trained.pace, spec, place, drive_of(trained))
        progress("measuring read bandwidth")
        here = {name: one for name, one in measured.engines.items() if name not in CUDA}
        roofs = roofline(here)
        if memory and trained.has_packed_file:
            progress("measuring peak memory, each engine in a process of its own")
            peaks = {name: _with_peak(one, name, trained, packed) for name, one in here.items()}
            measured = measured.model_copy(update={"engines": measured.engines | peaks})
    protocol = machine() | measured.protocol | {"audio": audio.origin}
    return LatencyRun(
        model=_about(trained),
        measured=measured.model_copy(update={"protocol": protocol}),
        roofline=roofs,
        estimates=[estimates(profile, measured.engines, protocol["step_ms"]) for profile in profiles],
    )


def _with_peak(latency: Latency, name: str, trained: TrainedModel, packed: PackedModel | None) -> Latency:
    """A latency with the peak memory of its engine; torch engines read the dense file and hold what they make of it."""
    kind: Kind = "csr" if name == "torch-csr" else "dense" if name in TORCH else "native"
    file = packed_for("dense" if name in TORCH else name, trained, packed)
    peak, before = peak_memory(file, kind)
    assert latency.memory is not None
    exact = latency.memory
    return latency.model_copy(
        update={"memory": Memory(weights=exact.weights, state=exact.state, peak=peak, before=before)}
    )


def _shape(trained: TrainedModel) -> dict[str, Any]:
    if trained.has_packed_file:
        return {"shape": trained.transducer.config()["shape"]}
    assert trained.model.spec is not None
    return {"spec": trained.model.spec.model_dump(mode="json")}


def _about(trained: TrainedModel) -> dict[str, Any]:
    weights = trained.model.recogniser_state()
    matrices = [weights[name] for name in prunable_weights(trained.model) if name in weights]
    total = sum(w.numel() for w in matrices)
    return {
        **_shape(trained),
        "weights": sum(w.numel() for w in weights.values()),
        "sparsity": sum(int((w == 0).sum()) for w in matrices) / total,
        "step_ms": trained.pace.step_seconds * 1000,
    }

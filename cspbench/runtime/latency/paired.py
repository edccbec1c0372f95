"""Latency of a trial: the pruned recogniser beside the dense one it started from."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.asr.trained import TrainedModel
from cspbench.corpora.audio import read_utterance
from cspbench.corpora.base import Utterance
from cspbench.result import LatencyReport
from cspbench.runtime import extension
from cspbench.runtime.latency.engines import drive_of, make_engine
from cspbench.runtime.latency.measure import measure, quiet_place
from cspbench.spec import LatencySpec


def measure_latency(
    dense: TrainedModel, pruned: TrainedModel, utterances: Sequence[Utterance], spec: LatencySpec
) -> LatencyReport:
    """Stream the same audio through the dense and the pruned, packed recogniser, interleaved.

    Both run on the native engine where it was built, with the dense recogniser in torch beside them and the pruned one
    in int8; elsewhere both run in torch, the pruned one on CSR. A recogniser without packed files runs in torch, the
    pruned one with the layers packed that are faster so; without a streaming step it decodes whole utterances. The
    report's protocol says which. Waits until no other cspbench measures on this machine.

    Args:
        dense: the recogniser before pruning.
        pruned: the recogniser after pruning.
        utterances: what is streamed; the first `spec.utterances` of them.
        spec: threads, warm-up and repetitions.
    """
    audio = [read_utterance(u) for u in utterances[: spec.utterances]]
    models = {"torch": dense, "dense": dense, "packed": pruned, "int8": pruned}
    compared = ("dense", "packed")
    if not dense.has_packed_file:
        models, compared = {"torch": dense, "packed": pruned}, ("torch", "packed")
    if not extension.available():
        sparse = "torch-csr" if dense.has_packed_file else "pruned"
        models, compared = {"torch": dense, sparse: pruned}, ("torch", sparse)
    with quiet_place(spec.threads) as place:
        engines = [make_engine(name, trained, spec.threads) for name, trained in models.items()]
        found = measure(engines, audio, dense.pace, spec, place, drive_of(dense))
    before, after = (found.engines[name] for name in compared)
    native = dense.has_packed_file and extension.available()
    described = _native_words() if native else {"dense": before.engine, "packed": after.engine}
    return LatencyReport(
        dense=before,
        packed=after,
        protocol=found.protocol | described | {"dtype": "fp32", "conclusive": found.noise.conclusive},
        engines=found.engines,
        ratios=found.ratios,
        noise=found.noise,
    )


def _native_words() -> dict[str, str]:
    """Descriptions of the native engines, alike for all trials on a machine; each engine reports its formats."""
    engine = f"native engine ({extension.require('the native engine').current()})"
    return {
        "dense": f"{engine}, every weight, fp32",
        "packed": f"{engine}, without zeros, fp32, formats by measured cost",
    }

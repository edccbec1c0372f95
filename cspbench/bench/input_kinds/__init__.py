"""The kinds of inputs that `cspbench bench inputs` tries: each makes inputs whose right outcome is known."""

from __future__ import annotations

from cspbench.bench.input_kinds.computations import losses, quotas
from cspbench.bench.input_kinds.corpora import first_files, lines, segments, text
from cspbench.bench.input_kinds.places import names, places
from cspbench.bench.input_kinds.recordings import (
    cut_off,
    edges,
    growth,
    headers_without_length,
    other_files,
    sample_values,
)
from cspbench.bench.input_kinds.studies import counts, databases, values
from cspbench.bench.inputs import Kind

KINDS: dict[str, Kind] = {
    "K1 databases": databases,
    "K2 names": names,
    "K3 cut off": cut_off,
    "K3 streamed headers": headers_without_length,
    "K4 edges": edges,
    "K5 text": text,
    "K6 sample values": sample_values,
    "K7 places": places,
    "K8 quotas": quotas,
    "K9 losses": losses,
    "K10 values": values,
    "K11 segments and channels": segments,
    "K12 first files": first_files,
    "K12 lines": lines,
    "K13 counts": counts,
    "K14 growth": growth,
    "K15 other files": other_files,
}

"""Packed models: zeros are not stored, and one file holds all that recognition needs."""

from cspbench.runtime.packing.choice import SEARCHES
from cspbench.runtime.packing.container import PackedFileError
from cspbench.runtime.packing.encode import pack_matrix, parse_format
from cspbench.runtime.packing.header import PackedHeader
from cspbench.runtime.packing.matrix import FORMATS, PackedMatrix, information_bound
from cspbench.runtime.packing.model import PackedModel
from cspbench.runtime.packing.pack import MatrixOption, dense_bytes, open_folder, open_model, pack_model, packed_bytes
from cspbench.runtime.packing.values import VALUE_TYPES, PackingError

__all__ = [
    "FORMATS",
    "SEARCHES",
    "VALUE_TYPES",
    "MatrixOption",
    "PackedFileError",
    "PackedHeader",
    "PackedMatrix",
    "PackedModel",
    "PackingError",
    "dense_bytes",
    "information_bound",
    "open_folder",
    "open_model",
    "pack_matrix",
    "pack_model",
    "packed_bytes",
    "parse_format",
]

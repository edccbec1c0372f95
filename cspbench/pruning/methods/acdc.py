"""AC/DC: training alternates between a sparse and a dense network."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import MaskedMethod, MaskedParams
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register
from cspbench.pruning.scores import magnitudes


class ACDCParams(MaskedParams):
    """Options of alternating compressed and decompressed training."""

    warmup: Annotated[float, Search(0.0, 0.2)] = Field(
        0.1, ge=0, le=0.5, description="dense training before the first compression, as a fraction of the steps"
    )
    cycles: Annotated[int, Search(2, 8)] = Field(
        4, ge=1, le=100, description="compressed phases before the last one, each followed by a dense one as long"
    )
    end: Annotated[float, Search(0.5, 0.85)] = Field(
        0.7, ge=0.5, le=1, description="the last compressed phase begins after this fraction of the steps"
    )


@register("acdc")
class ACDC(MaskedMethod):
    """Alternating compressed and decompressed training.

    After a dense warm-up the network is compressed to the target, by magnitude, and trained sparse; then decompressed:
    all weights train again, those that were dropped from zero on. Both phases are equally long and alternate `cycles`
    times. From `end` on the network is compressed for good. A compressed phase chooses its mask anew.

    The paper resets the optimiser's momentum at every decompression. The optimiser cannot be reached from here; the
    moments of dropped weights see zero gradients for a whole phase and have faded when it ends.
    """

    Params = ACDCParams
    params: ACDCParams
    summary = "training alternates between the sparse and the dense network, and ends on the sparse one"
    source = "Peste et al. 2021, AC/DC: Alternating Compressed/DeCompressed Training, arXiv:2106.12379"

    def __init__(self, params: ACDCParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self._flags = {"compressed": torch.tensor(False)}  # on the CPU: it is read at every step
        self.register_state(acdc="_flags")

    def start(self) -> None:
        """Compress at once if there is no warm-up."""
        self._switch(done=0)

    def after_step(self, progress: Progress) -> None:
        """Compress or decompress if it is time, and clear the dropped weights."""
        self._switch(done=progress.step + 1)
        self._apply()

    def compressed(self, done: int) -> bool:
        """Return True if the network is sparse after `done` steps."""
        begin, end = self.params.warmup * self.context.steps, self.params.end * self.context.steps
        if done < begin:
            return False
        if done >= end:
            return True
        return int((done - begin) / (end - begin) * 2 * self.params.cycles) % 2 == 0

    def _switch(self, done: int) -> None:
        if not self.context.zeros or self.compressed(done) == bool(self._flags["compressed"]):
            return
        if self.compressed(done):
            self._prune(self.context.zeros)
            self._apply()
        else:
            self._masks = {name: torch.ones_like(mask) for name, mask in self._masks.items()}
            self._nudge_off_zero()
        self._flags["compressed"].fill_(self.compressed(done))

    def _scores(self) -> dict[str, Tensor]:
        return magnitudes(self.context.weights)

"""The pruning that comes with torch, in the place of one of our methods."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn.utils import prune

from cspbench.asr.speech_model import SpeechModel
from cspbench.hyper import Hyperparameters
from cspbench.pruning import Progress, PruningContext, PruningMethod
from cspbench.pruning.schedule import Schedule


class TorchPrune(PruningMethod):
    """`torch.nn.utils.prune`: magnitude masks along the ramp that is the default here, for comparison alone.

    Weights are parametrised as ``weight_orig * weight_mask`` from the start; `prune.global_unstructured` adds to the
    masks whenever the ramp is due, as its documentation does iterative pruning.
    """

    def __init__(self, model: SpeechModel, context: PruningContext) -> None:
        super().__init__(Hyperparameters(), context)
        self.schedule = Schedule(context.steps)
        owners = {name: name.rpartition(".") for name in context.weights}
        self._places = {name: (model.get_submodule(path), leaf) for name, (path, _, leaf) in owners.items()}
        for module, leaf in self._places.values():
            prune.identity(module, leaf)
        context.weights = {name: getattr(module, f"{leaf}_orig") for name, (module, leaf) in self._places.items()}
        self._zeros = 0

    def before_forward(self, progress: Progress) -> None:
        """Refresh the weight that the loss reads without calling its module; the others have hooks."""
        module, leaf = self._places["joint_output.weight"]
        setattr(module, leaf, getattr(module, f"{leaf}_orig") * getattr(module, f"{leaf}_mask"))

    def after_step(self, progress: Progress) -> None:
        """Prune what has become due."""
        done = progress.step + 1
        wanted = round(self.schedule.fraction(done) * self.context.zeros)
        if self.schedule.due(done) and wanted > self._zeros:
            prune.global_unstructured(list(self._places.values()), prune.L1Unstructured, amount=wanted - self._zeros)
            self._zeros = wanted

    def finish(self) -> None:
        """Make the masks permanent."""
        for module, leaf in self._places.values():
            prune.remove(module, leaf)

    def masks(self) -> dict[str, Tensor]:
        return {name: getattr(module, f"{leaf}_mask").bool() for name, (module, leaf) in self._places.items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        pass

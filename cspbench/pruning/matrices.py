"""Prunable weight matrices of any model: which there are, and convolutions as the matrices that they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from cspbench.errors import PruningError
from cspbench.pruning.inputs import observer_of

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NO_MATRICES = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.LayerNorm,
    nn.RMSNorm,
    parametrize.ParametrizationList,
)
_COMPUTING_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside `torch.compile`, `DistributedDataParallel` and `DataParallel`.

    Raises:
        PruningError: a model whose weights are split over processes.
    """
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            break
    split = any(type(module).__name__.startswith("FullyShardedDataParallel") for module in model.modules())
    if split or any(hasattr(parameter, "placements") for parameter in model.parameters()):
        raise PruningError(
            "this model's weights are split over processes (FSDP, DTensor), and zeros are counted over whole matrices: "
            "use DistributedDataParallel"
        )
    return model


def process_group(model: nn.Module) -> Any:
    """Return the processes that train a model together, None where it is this one alone."""
    while not isinstance(model, nn.parallel.DistributedDataParallel):
        if not hasattr(model, "_orig_mod"):
            return None
        model = model._orig_mod  # type: ignore[assignment]
    return model.process_group


class Matrices:
    """The prunable weights of a model.

    Args:
        model: not wrapped.
        patterns: of parameter names, as of a shell (``encoder.*``). None takes the weights of linear, convolution,
            recurrent and attention layers, and of layers that `cspbench.pruning.inputs.observes` registered, as far as
            they are trained and not computed from others. Embeddings and normalisation layers never have any.

    Attributes:
        parameters: as they are in the model, by name; one that several layers share appears once.
        matrices: the same memory, each of shape (out, in). The weights of a convolution, (out, in, kernel), are seen as
            (out, in * kernel).
        gradients: of the matrices.

    Raises:
        PruningError: a pattern that matches no weight matrix, or one that is computed from other parameters; a
            convolution whose weights do not lie in memory row by row.
    """

    def __init__(self, model: nn.Module, patterns: Sequence[str] | None = None) -> None:
        self._model = model
        if isinstance(patterns, str):
            patterns = [patterns]
        self.parameters = _known(model) if patterns is None else _matching(model, patterns)
        self.matrices = {name: as_matrix(name, parameter) for name, parameter in self.parameters.items()}
        self.gradients = GradientViews(self.parameters, self.matrices)

    def check(self) -> None:
        """Raise PruningError if the model has other parameters, or other memory, than when these were found."""
        found = dict(self._model.named_parameters())
        for name, parameter in self.parameters.items():
            if found.get(name) is not parameter or self.matrices[name].data_ptr() != parameter.data_ptr():
                raise PruningError(
                    f"'{name}' was replaced or moved after pruning was set up: move, cast and wrap the model first"
                )


class GradientViews:
    """Gradients of convolutions, which methods see as those of matrices.

    Args:
        parameters: of a model, by name.
        matrices: those of some of them, by the same names: the parameter itself, or what `as_matrix` made of it.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], matrices: Mapping[str, nn.Parameter]) -> None:
        pairs = ((parameters.get(name), matrix) for name, matrix in matrices.items())
        self._pairs = [(p, matrix) for p, matrix in pairs if p is not None and p is not matrix]

    def take(self) -> None:
        """Show the gradients of convolutions as those of their matrices."""
        for parameter, matrix in self._pairs:
            matrix.grad = None if parameter.grad is None else parameter.grad.reshape(matrix.shape)

    def give_back(self) -> None:
        """Make the gradients of the matrices those of their convolutions."""
        for parameter, matrix in self._pairs:
            parameter.grad = None if matrix.grad is None else matrix.grad.view(parameter.shape)
            matrix.grad = None


def _known(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trained matrices of all layers whose inputs can be seen."""
    known = set()
    for module in model.modules():
        if observer_of(module) is not None:
            computed = _computed(module)
            own = module.named_parameters(remove_duplicate=False)
            known |= {id(p) for n, p in own if not any(n.startswith((f"{t}_", "parametrizations.")) for t in computed)}
    candidates = _candidates(model)
    return {name: p for name, p in candidates.items() if id(p) in known and p.requires_grad}


def _matching(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    candidates = _candidates(model)
    for prefix, module in model.named_modules():
        for tensor in _computed(module):
            name = f"{prefix}.{tensor}".lstrip(".")
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                raise PruningError(
                    f"'{name}' is computed from other parameters, whose zeros are not its own: remove its "
                    "parametrisation, weight norm or pruning mask, or leave it out of `prunable`"
                )
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in candidates):
            raise PruningError(
                f"prunable: '{pattern}' matches no weight matrix of this model (there are: {', '.join(candidates)})"
            )
    return {name: p for name, p in candidates.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _candidates(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that is a matrix which multiplies something, by name."""
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    return {
        name: parameter for name, parameter in model.named_parameters() if _multiplies(parameter, owners[id(parameter)])
    }


def _multiplies(parameter: nn.Parameter, owners: Sequence[nn.Module]) -> bool:
    if any(isinstance(owner, _NO_MATRICES) for owner in owners):
        return False
    return parameter.dim() == 2 or (parameter.dim() > 2 and any(isinstance(owner, _CONVOLUTIONS) for owner in owners))


def _computed(module: nn.Module) -> list[str]:
    """Names of the tensors of a module that are computed from parameters of other names."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, _COMPUTING_HOOKS)]
    named = [getattr(hook, "name", None) or getattr(hook, "_tensor_name", "") for hook in hooks]
    parametrised: Mapping[str, Any] = getattr(module, "parametrizations", {})
    return [*named, *(parametrised if parametrize.is_parametrized(module) else ())]


def as_matrix(name: str, parameter: nn.Parameter) -> nn.Parameter:
    """Return weights as the matrix (out, in) that they are: the parameter itself, or a parameter of the same memory.

    Raises:
        PruningError: a convolution whose weights do not lie in memory row by row.
    """
    if parameter.dim() == 2:
        return parameter
    if not parameter.is_contiguous():
        raise PruningError(f"'{name}' does not lie in memory row by row: call .contiguous() on the model's weights")
    return nn.Parameter(parameter.detach().view(len(parameter), -1), requires_grad=parameter.requires_grad)

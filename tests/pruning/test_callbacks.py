"""Callbacks in the trainers they are for: exact zeros, and a resumed training that ends as one that was not stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cspbench.errors import PruningError

ROWS = [torch.randn(6, generator=torch.Generator().manual_seed(i)) for i in range(24)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - x[:, :3]).square().mean()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.dim() > 1])


def test_lightning(tmp_path: Path) -> None:
    pl = pytest.importorskip("pytorch_lightning", reason="LIGHTNING ABSENT: pip install 'cspbench[lightning]'")
    from cspbench.pruning.callbacks.lightning import PruningCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            return loss_of(self.network, batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def fit(checkpoint: Path | None = None) -> tuple[Module, PruningCallback]:
        module = Module()
        callback = PruningCallback("csp", 0.75, calibration=lambda: [module.network(torch.stack(ROWS))], interval=2)
        saving = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=6, save_top_k=-1)
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=4,
            gradient_clip_val=0.1, accumulate_grad_batches=2, callbacks=[callback, saving],
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(ROWS, batch_size=4), ckpt_path=checkpoint)
        return module, callback

    whole, callback = fit()
    assert callback.pruner.step == callback.pruner.total == 12
    assert int((weights(whole) == 0).sum()) == round(0.75 * 108)
    resumed, _ = fit(tmp_path / "step=6.ckpt")
    assert torch.equal(weights(whole), weights(resumed))


def test_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="TRANSFORMERS ABSENT: pip install 'cspbench[transformers]'"
    )
    from cspbench.pruning.callbacks.transformers import PruningCallback

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": loss_of(self.network, x)}

    def trained(resume: bool = False) -> tuple[Model, PruningCallback]:
        model = Model()
        data = torch.stack(ROWS)
        callback = PruningCallback("csp", 0.75, clip=0.1, calibration=lambda: [model.network(data)], interval=2)
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=4, save_steps=6, max_grad_norm=0.0,
            learning_rate=1e-2, lr_scheduler_type="constant", report_to=[], disable_tqdm=True, use_cpu=True,
            remove_unused_columns=False, gradient_accumulation_steps=2,
        )  # fmt: skip
        trainer = transformers.Trainer(model, arguments, train_dataset=[{"x": x} for x in ROWS], callbacks=[callback])
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6") if resume else None)
        return model, callback

    whole, callback = trained()
    assert callback.pruner.step == callback.pruner.total == 12
    assert int((weights(whole) == 0).sum()) == round(0.75 * 108)
    resumed, _ = trained(resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    (tmp_path / "checkpoint-6" / "pruner.pt").unlink()
    with pytest.raises(PruningError, match=r"pruner\.pt is missing"):
        trained(resume=True)

"""Prune a wav2vec2 CTC recogniser of Transformers in a training loop of one's own: 80 % of its weights become zero.

Needs ``pip install 'cspbench[transformers]'``. The model is small and random, and so is its speech: put
``Wav2Vec2ForCTC.from_pretrained(...)`` and your own batches in their place.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

import cspbench

STEPS = 12
CONFIG = Wav2Vec2Config(
    vocab_size=12,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    conv_dim=(16, 16, 16),
    conv_kernel=(10, 3, 3),
    conv_stride=(8, 4, 4),
    num_feat_extract_layers=3,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    mask_time_prob=0.0,
)


def batch(number: int) -> tuple[Tensor, Tensor]:
    """Four utterances of 6,000 samples, and five labels for each."""
    generator = torch.Generator().manual_seed(number)
    return torch.randn(4, 6000, generator=generator), torch.randint(1, 12, (4, 5), generator=generator)


def main() -> None:
    """Train and prune, then print the zeros of every matrix."""
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def calibration() -> Iterator[object]:
        return (model(batch(1000 + number)[0]) for number in range(2))

    pruner = cspbench.Pruner(model, optimizer, "csp", 0.8, STEPS, calibration=calibration)
    for step in range(STEPS):
        audio, labels = batch(step)
        optimizer.zero_grad()
        model(audio, labels=labels).loss.backward()
        pruner.after_backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(pruner.finish())


if __name__ == "__main__":
    main()

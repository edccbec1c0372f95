"""A conformer encoder (Gulati et al. 2020, arXiv:2005.08100) that streams in chunks.

A frame attends to its own chunk and to a number of chunks before it (as in Zhang et al. 2020, arXiv:2012.05481), and
the convolution is causal, so that chunk by chunk gives the encodings of the whole. Positions are rotary (Su et al.
2021, arXiv:2104.09864): only distances matter, and a stream may go on for ever.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cspbench.asr.speech_model import valid

Cache = tuple[Tensor, Tensor, Tensor]
"""What a block remembers between chunks: keys and values (1, N, L, H), inputs of the convolution (1, N, K - 1, H)."""

FEED_FORWARD = 4
"""Width of the feed-forward layers over that of the encoder."""

BASE = 10_000.0
"""Longest wavelength of the rotary positions, over 2 pi."""


class ConformerShape(NamedTuple):
    """Sizes of an encoder; `chunk` and `left` are in model steps, `left` a multiple of `chunk`."""

    inputs: int
    layers: int
    width: int
    heads: int
    kernel: int
    chunk: int
    left: int


class Attention(nn.Module):
    """Multi-head self-attention: (N, T, H) -> (N, T, H)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.inputs = nn.Linear(width, 3 * width)  # queries, keys and values
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, before: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Attend to frames and to the keys and values (N, L, H) of those before.

        Args:
            x: (N, T, H).
            mask: bool (N, 1, T, L + T), True where a frame (third) may attend; None if it may everywhere.
            before: keys without their positions, and values.

        Returns:
            Outputs, and keys and values of all frames, (N, L + T, H).
        """
        query, key, value = self.inputs(self.norm(x)).chunk(3, dim=-1)
        keys, values = torch.cat([before[0], key], dim=1), torch.cat([before[1], value], dim=1)
        angles = rotary_angles(keys.shape[1], x.shape[-1] // self.heads, x.device)
        attended = nn.functional.scaled_dot_product_attention(
            rotate(self._split(query), angles[-x.shape[1] :]),
            rotate(self._split(keys), angles),
            self._split(values),
            attn_mask=mask,
        )
        return self.dropout(self.output(attended.transpose(1, 2).flatten(-2))), keys, values

    def _split(self, x: Tensor) -> Tensor:
        """(N, T, H) -> (N, heads, T, H / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def rotary_angles(positions: int, width: int, device: torch.device) -> Tensor:
    """Return the angle of each position and pair of features, (T, width / 2)."""
    frequencies = BASE ** (-torch.arange(0, width, 2, device=device) / width)
    return torch.arange(positions, device=device)[:, None] * frequencies


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs of features of x, (N, heads, T, D), by angles (T, D / 2)."""
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


class Convolution(nn.Module):
    """Gated, causal depthwise convolution: (N, T, H) -> (N, T, H). It normalises by layer, which streams."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.normalise = nn.LayerNorm(width)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve frames after the gated frames before them, (N, K - 1, H); return as many of the last ones too."""
        gated = torch.cat([before, nn.functional.glu(self.gate(self.norm(x)), dim=-1)], dim=1)
        convolved = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        y = self.output(nn.functional.silu(self.normalise(convolved)))
        return self.dropout(y), gated[:, x.shape[1] :]


class Block(nn.Module):
    """Half a feed-forward layer, attention, convolution, the other half, normalisation; all but the last residual."""

    def __init__(self, shape: ConformerShape, dropout: float) -> None:
        super().__init__()
        self.first = feed_forward(shape.width, dropout)
        self.attention = Attention(shape.width, shape.heads, dropout)
        self.convolution = Convolution(shape.width, shape.kernel, dropout)
        self.second = feed_forward(shape.width, dropout)
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache) -> tuple[Tensor, Cache]:
        """Frames (N, T, H) after those that the cache is of; the cache returned holds all keys and values."""
        x = x + 0.5 * self.first(x)
        attended, keys, values = self.attention(x, mask, (cache[0][0], cache[1][0]))
        x = x + attended
        convolved, last = self.convolution(x, cache[2][0])
        x = x + convolved
        return self.norm(x + 0.5 * self.second(x)), (keys[None], values[None], last[None])


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    """Make a feed-forward layer with its normalisation."""
    inner = FEED_FORWARD * width
    layers = (nn.LayerNorm(width), nn.Linear(width, inner), nn.SiLU(), nn.Dropout(dropout), nn.Linear(inner, width))
    return nn.Sequential(*layers, nn.Dropout(dropout))


class ConformerEncoder(nn.Module):
    """Features (N, T, C) -> encodings (N, T, H): `encode` all at once, `advance` chunk after chunk."""

    def __init__(self, shape: ConformerShape, dropout: float) -> None:
        super().__init__()
        self.shape = shape
        self.projection = nn.Linear(shape.inputs, shape.width)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))

    def encode(self, features: Tensor, frames: Tensor) -> Tensor:
        """Encode whole utterances with `frames` (N,) valid steps."""
        x = self.projection(features)
        mask = chunk_mask(frames, features.shape[1], self.shape.chunk, self.shape.left)
        for block, cache in zip(self.blocks, self._empty(x), strict=True):
            x, _ = block(x, mask, cache)
        return x

    def advance(self, features: Tensor, state: list[Cache] | None) -> tuple[Tensor, list[Cache]]:
        """Encode the chunks that follow a state, which is that after whole chunks; None begins an utterance."""
        encoded = []
        for chunk in features.split(self.shape.chunk, dim=1):
            x, after = self.projection(chunk), []
            for block, cache in zip(self.blocks, self._empty(x) if state is None else state, strict=True):
                x, (keys, values, last) = block(x, None, cache)
                after.append((keys[:, :, -self.shape.left :], values[:, :, -self.shape.left :], last))
            encoded.append(x)
            state = after
        assert state is not None
        return torch.cat(encoded, dim=1), state

    def _empty(self, x: Tensor) -> list[Cache]:
        nothing = x.new_zeros(1, len(x), 0, self.shape.width)
        silence = x.new_zeros(1, len(x), self.shape.kernel - 1, self.shape.width)
        return [(nothing, nothing, silence)] * self.shape.layers


def chunk_mask(frames: Tensor, longest: int, chunk: int, left: int) -> Tensor:
    """Bool (N, 1, T, T), True where a frame (third) attends to another (last).

    Args:
        frames: valid frames of each utterance, (N,); padding is attended to by nothing but itself.
        longest: T.
        chunk: frames of a chunk.
        left: frames before its chunk that a frame sees.
    """
    index = torch.arange(longest, device=frames.device)
    begins = index // chunk * chunk  # first frame of the chunk that a frame is in
    seen = (index < begins[:, None] + chunk) & (index >= begins[:, None] - left)
    mask = seen & valid(frames, longest)[:, None, :]
    return (mask | torch.eye(longest, dtype=torch.bool, device=frames.device))[:, None]

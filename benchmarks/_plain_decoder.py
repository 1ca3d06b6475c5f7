"""A peer for language_model.py: what anyone would write first, a decoder in sixty lines with PyTorch's own parts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    "Pre-norm attention with rotary positions, then a SwiGLU layer of the usual 8/3 of the width."

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        hidden = 8 * round(width / 3)
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotate(q, *turn), rotate(k, *turn), v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        gate, value = self.up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * value)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class PlainDecoder(nn.Module):
    "Tied embeddings; normal(0, 0.02), what adds to the stream scaled by the depth."

    def __init__(self, vocab_size: int, num_layers: int, num_heads: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(num_layers))
        self.norm, self.num_turns = nn.RMSNorm(width), width // num_heads // 2
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2: continue
            deep = name.endswith(("out.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers) if deep else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        "(B, T) to logits (B, T, V)."
        angles = torch.arange(tokens.shape[1])[:, None] * 10_000.0 ** (-torch.arange(self.num_turns) / self.num_turns)
        x, turn = self.embedding(tokens), (angles.cos(), angles.sin())
        for block in self.blocks:
            x = block(x, turn)
        return F.linear(self.norm(x), self.embedding.weight)


def optimizer(model: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    "AdamW for everything."
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def factor(progress: float, step: int) -> float:
    "Up in 5%, then a cosine to a tenth."
    return progress / 0.05 + 0.01 if progress < 0.05 else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


def width_of(parameters: int, vocab_size: int, num_layers: int, multiple: int = 8) -> int:
    "The width at which it has about so many parameters: 12 × layers × width² + vocabulary × width."
    a, b = 12 * num_layers, vocab_size
    return multiple * round((math.sqrt(b * b + 4 * a * parameters) - b) / (2 * a) / multiple)

"""A peer for language_model.py: the small GPT of the nanoGPT repository with its published settings, written from its description."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    "Pre-norm with LayerNorm, attention with learned positions outside, GELU, dropout 0."

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.attention, self.projection = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = (part.view(rows, length, self.num_heads, -1).transpose(1, 2) for part in self.attention(self.norm_1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, length, width)
        x = x + self.projection(y)
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class NanoGPT(nn.Module):
    "GPT-2's shape: learned positions, tied embeddings, no bias; normal(0, 0.02), residual projections scaled by the depth."

    def __init__(self, vocab_size: int, num_layers: int, num_heads: int, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.embedding, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2: continue
            deep = name.endswith(("projection.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers) if deep else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        "(B, T) to logits (B, T, V)."
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


def optimizer(model: nn.Module) -> torch.optim.AdamW:
    "AdamW as its small-character recipe has it: decay 0.1 for matrices only, beta2 0.99."
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99), fused=True
    )


def factor(progress: float, step: int) -> float:
    "Warm-up over 100 steps, then a cosine to a tenth, as a factor of 1e-3."
    if step < 100: return (step + 1) / 101
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))

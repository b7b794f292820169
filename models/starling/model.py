"""The llama architecture: RMSNorm, rotary positions, SwiGLU, tied embeddings, no biases.

Shapes: B sequences, T tokens, D = n_embd, H heads of size K = D / H, F = n_ff, V = n_vocab.
"""
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the architecture."""
    n_vocab: int = 4096
    n_embd: int = 320
    n_head: int = 5
    n_layer: int = 5
    n_ff: int = 864
    n_ctx: int = 512
    rope_base: float = 10000.0
    norm_eps: float = 1e-5


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension."""

    def __init__(self, config):
        super().__init__()
        self.eps = config.norm_eps
        self.weight = nn.Parameter(torch.ones(config.n_embd))

    def forward(self, x):  # [..., D] f32 -> [..., D] f32
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rotations(config):
    """Unit complex numbers [n_ctx, K / 2]: (t, i) turns pair (2i, 2i + 1) at position t."""
    size = config.n_embd // config.n_head
    frequencies = config.rope_base ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(config.n_ctx), frequencies)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x, turns):
    """Rotary embedding of interleaved pairs.

    x [B, T, H, K], turns [T, K / 2] complex -> [B, T, H, K] f32
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns[:, None, :]).flatten(-2)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        for name in ("q", "k", "v", "output"):
            setattr(self, name, nn.Linear(config.n_embd, config.n_embd, bias=False))

    def forward(self, x, turns, mask):  # [B, T, D], [T, K / 2] complex, [T, T] -> [B, T, D]
        batch, length, width = x.shape
        q, k, v = (project(x).unflatten(-1, (self.n_head, -1))
                   for project in (self.q, self.k, self.v))
        scale = (width // self.n_head) ** -0.5
        q, k = rotate(q, turns * scale).transpose(1, 2), rotate(k, turns).permute(0, 2, 3, 1)
        weights = torch.softmax(q @ k + mask, dim=-1)  # [B, H, T, T]
        mixed = weights @ v.transpose(1, 2)  # [B, H, T, K]
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.n_ff, bias=False)
        self.up = nn.Linear(config.n_embd, config.n_ff, bias=False)
        self.down = nn.Linear(config.n_ff, config.n_embd, bias=False)

    def forward(self, x):  # [B, T, D] -> [B, T, D]
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One layer: attention and feed-forward, each behind a norm, added to the residual stream."""

    def __init__(self, config):
        super().__init__()
        self.attn_norm, self.attn = RMSNorm(config), Attention(config)
        self.ffn_norm, self.ffn = RMSNorm(config), FeedForward(config)

    def forward(self, x, turns, mask):  # [B, T, D] f32 -> [B, T, D] f32
        x = x + self.attn(self.attn_norm(x), turns, mask)
        return x + self.ffn(self.ffn_norm(x))


class Starling(nn.Module):
    """Token ids to logits."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_vocab, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config)
        self.register_buffer("turns", rotations(config), persistent=False)
        mask = torch.full((config.n_ctx, config.n_ctx), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)
        self._initialise()

    def forward(self, ids):  # [B, T] int64, T <= n_ctx -> [B, T, V]
        length = ids.shape[1]
        x = self.embedding(ids)
        mask = self.mask[:length, :length]
        if torch.is_autocast_cpu_enabled():
            mask = mask.to(torch.get_autocast_cpu_dtype())
        for block in self.blocks:
            x = block(x, self.turns[:length], mask)
        return F.linear(self.norm(x), self.embedding.weight)

    def n_params(self):
        """Number of trained numbers; the tied embedding counts once."""
        return sum(p.numel() for p in self.parameters())

    def weights(self):
        """The parameters as {name: f32 array}."""
        return {name: p.detach().numpy() for name, p in self.named_parameters()}

    @classmethod
    def from_weights(cls, config, weights):
        """The model whose weights() are `weights`."""
        model = cls(config)
        model.load_state_dict({name: torch.from_numpy(array.copy())
                               for name, array in weights.items()})
        return model

    def _initialise(self):
        """Small embeddings, variance-keeping projections, zero for what writes to the stream."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            for linear in (block.attn.q, block.attn.k, block.attn.v, block.ffn.gate, block.ffn.up):
                nn.init.normal_(linear.weight, std=0.7 * self.config.n_embd ** -0.5)
            nn.init.zeros_(block.attn.output.weight)
            nn.init.zeros_(block.ffn.down.weight)

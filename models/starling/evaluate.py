"""Measure bits per byte on a held-out book, and sample text."""
import math

import numpy as np
import torch
from torch.nn import functional as F

from starling.bpe import EOT_ID

N_WINDOWS = 8
"""Windows scored at once."""


def _windows(n_targets, n_ctx, stride):
    """Yield (first input, first target to score) of windows that score each target once."""
    scored = 0
    for start in range(0, max(n_targets - n_ctx, 0) + stride, stride):
        start = min(start, max(n_targets - n_ctx, 0))
        yield start, scored
        scored = start + n_ctx


@torch.no_grad()
def bits_per_byte(model, tokenizer, documents, stride):
    """Bits the model needs for `documents`, chapter ends included, over their UTF-8 bytes.

    Windows of n_ctx tokens advance by `stride`, so that all but the first are scored with at least
    n_ctx - stride tokens of context.
    """
    ids = torch.tensor(tokenizer.encode_documents(documents))
    n_ctx = min(model.config.n_ctx, len(ids) - 1)
    windows = list(_windows(len(ids) - 1, n_ctx, stride))
    nats = 0.0
    for first in range(0, len(windows), N_WINDOWS):
        batch = windows[first:first + N_WINDOWS]
        inputs = torch.stack([ids[start:start + n_ctx] for start, _ in batch])
        targets = torch.stack([ids[start + 1:start + 1 + n_ctx] for start, _ in batch])
        logits = model(inputs).transpose(1, 2)  # [B, V, T]
        losses = F.cross_entropy(logits, targets, reduction="none")  # [B, T] nats
        nats += sum(float(row[scored - start:].sum())
                    for row, (start, scored) in zip(losses, batch))
    return nats / math.log(2) / sum(len(document.encode("utf-8")) for document in documents)


def _choose(logits, temperature, top_p, rng):
    """Draw a token id from logits [V] (f64); temperature 0 takes the most likely."""
    if temperature == 0:
        return int(logits.argmax())
    likelihoods = np.exp((logits - logits.max()) / temperature)
    order = np.argsort(-likelihoods, kind="stable")
    cumulative = np.cumsum(likelihoods[order])
    last = np.searchsorted(cumulative, top_p * cumulative[-1])
    return int(order[np.searchsorted(cumulative, rng.random() * cumulative[last], side="right")])


@torch.no_grad()
def generate(model, tokenizer, prompt, n_tokens, temperature=0.7, top_p=0.9, seed=0):
    """Continue `prompt` by at most `n_tokens` tokens, to the end of the text; return their ids."""
    rng = np.random.default_rng(seed)
    ids = [EOT_ID, *tokenizer.encode(prompt)]
    n_prompt = len(ids)
    while len(ids) < n_prompt + n_tokens:
        logits = model(torch.tensor([ids[-model.config.n_ctx:]]))[0, -1]
        token = _choose(logits.double().numpy(), temperature, top_p, rng)
        if token == EOT_ID:
            break
        ids.append(token)
    return ids[n_prompt:]

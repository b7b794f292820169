"""The training loop: which windows of the text to show, how fast to learn, when to stop."""
import copy
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from starling.optim import Optimizers


@dataclass(frozen=True)
class Plan:
    """Hyper-parameters of one run, which lasts `n_steps` or, if that is 0, `minutes`."""
    minutes: float = 0.0
    n_steps: int = 0
    seed: int = 1
    batch_tokens: int = 6144
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    weight_decay: float = 0.1
    warmup: float = 0.02         # fraction of the run
    decay: float = 0.7           # fraction of the run over which the rate falls to zero
    short_ctx: int = 256         # tokens per window at first
    short_fraction: float = 0.5  # of the run, before windows get as long as the model's context
    dtype: str = "bfloat16"      # of the matrix products
    save_s: float = 240.0        # between checkpoints
    n_threads: int = 2


class Windows:
    """Endless batches of windows of a token stream; an epoch shows each once, in random order."""

    def __init__(self, stream, length, n_rows, seed):
        self.stream, self.length, self.n_rows, self.seed = stream, length, n_rows, seed
        self.n_drawn = 0
        self.starts = self._all_starts()

    def next(self):
        """Return ids [n_rows, length + 1] int64: targets are the inputs moved by one column."""
        self.n_drawn += 1
        starts = itertools.islice(self.starts, self.n_rows)
        rows = [self.stream[start:start + self.length + 1] for start in starts]
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def skip(self, n_batches):
        """Pass over batches that an earlier run has drawn."""
        self.n_drawn += n_batches
        next(itertools.islice(self.starts, n_batches * self.n_rows, n_batches * self.n_rows), None)

    def _all_starts(self):
        for epoch in itertools.count():
            rng = np.random.default_rng([self.seed, self.length, epoch])
            first = rng.integers(self.length)
            starts = np.arange(first, len(self.stream) - self.length, self.length)
            yield from rng.permutation(starts)


def rate_at(progress, plan):
    """Fraction of the peak learning rate at `progress` in 0..1: warm up, hold, fall to zero."""
    return max(0.0, min(1.0, (progress + 1e-3) / plan.warmup, (1.0 - progress) / plan.decay))


def _start_thread():
    """Each thread computes alone and takes the tiniest numbers for zero, which are slow on x86."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


class Replicas:
    """Copies of a model, one to a thread, that share its weights but not its gradients.

    The threads meet once a step rather than in every matrix product, so that one whose core is busy
    with other work does not hold up the rest.
    """

    def __init__(self, model, n_threads, dtype):
        self.dtype = dtype
        self.models = [model, *(copy.deepcopy(model) for _ in range(n_threads - 1))]
        for replica in self.models[1:]:
            for shared, own in zip(model.parameters(), replica.parameters()):
                own.data = shared.data
        self.pool = ThreadPoolExecutor(n_threads, initializer=_start_thread)

    def backward(self, ids):
        """Leave in the model the gradient of the mean loss over ids [B, T + 1].

        Return that loss (nats/token).
        """
        shares = ids.tensor_split(len(self.models))
        jobs = [self.pool.submit(self._backward, model, share, len(share) / len(ids))
                for model, share in zip(self.models, shares)]
        loss = sum(job.result() for job in jobs)
        for total, *others in zip(*(model.parameters() for model in self.models)):
            for other in others:
                total.grad.add_(other.grad)
                other.grad = None
        return loss

    def _backward(self, model, ids, weight):
        is_bfloat16 = self.dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16, cache_enabled=False):
            logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()) * weight
        loss.backward()
        return loss.item()


class Trainer:
    """A model in training. `on_save(trainer)` is called after each checkpoint and at the end."""

    def __init__(self, model, stream, plan, checkpoint=None, on_save=lambda trainer: None):
        self.model, self.plan, self.checkpoint, self.on_save = model, plan, checkpoint, on_save
        dtype = getattr(torch, plan.dtype)
        self.replicas = Replicas(model, plan.n_threads, dtype)
        self.optimizers = Optimizers(model, plan.muon_lr, plan.adam_lr, plan.weight_decay, dtype)
        lengths = (plan.short_ctx, model.config.n_ctx)
        self.windows = [Windows(stream, length, plan.batch_tokens // length, plan.seed)
                        for length in lengths]
        self.n_done, self.spent_s, self.loss = 0, 0.0, float("nan")
        if checkpoint and os.path.exists(checkpoint):
            self._restore()

    def progress(self):
        """How much of the run is over, 0..1."""
        if self.plan.n_steps:
            return self.n_done / self.plan.n_steps
        return self.spent_s / (60.0 * self.plan.minutes)

    def n_tokens(self):
        """Tokens trained on so far."""
        return self.n_done * self.plan.batch_tokens

    def run(self):
        """Train to the end of the plan."""
        last, saved_s = time.monotonic(), self.spent_s
        while self.progress() < 1.0:
            self._step()
            now = time.monotonic()
            self.spent_s, last = self.spent_s + now - last, now
            if self.n_done % 20 == 0:
                self._report()
            if self.spent_s - saved_s > self.plan.save_s:
                saved_s = self.spent_s
                self._save()
        self._report()

    def _step(self):
        progress = self.progress()
        ids = self.windows[progress >= self.plan.short_fraction].next()
        loss = self.replicas.backward(ids)
        self.optimizers.step(rate_at(progress, self.plan), self.replicas.pool)
        self.n_done += 1
        self.loss = loss if self.n_done == 1 else 0.95 * self.loss + 0.05 * loss

    def _report(self):
        print(f"step {self.n_done:5d}  {100 * self.progress():5.1f} %  "
              f"{self.spent_s / 60:5.1f} min  {self.n_tokens() / 1e6:6.2f} M tokens  "
              f"{self.n_tokens() / self.spent_s:5.0f} tokens/s  loss {self.loss:.3f} nats/token",
              flush=True)

    def _save(self):
        if self.checkpoint:
            state = {"model": self.model.state_dict(), "adam": self.optimizers.adam.state_dict(),
                     "muon": self.optimizers.muon.buffers,
                     "drawn": [windows.n_drawn for windows in self.windows],
                     "done": (self.n_done, self.spent_s, self.loss)}
            torch.save(state, f"{self.checkpoint}.part")
            os.replace(f"{self.checkpoint}.part", self.checkpoint)
        self.on_save(self)

    def _restore(self):
        state = torch.load(self.checkpoint)
        self.model.load_state_dict(state["model"])
        self.optimizers.adam.load_state_dict(state["adam"])
        self.optimizers.muon.buffers = state["muon"]
        for windows, n_drawn in zip(self.windows, state["drawn"]):
            windows.skip(n_drawn)
        self.n_done, self.spent_s, self.loss = state["done"]
        print(f"continuing from step {self.n_done}", flush=True)

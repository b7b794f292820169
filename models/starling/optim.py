"""Muon for the matrices inside the layers, AdamW for the embedding and the norms.

Muon: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the update is
the momentum with all its singular values brought near one by five Newton-Schulz steps.
"""
import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration from the paper."""


def orthogonalise(matrices, dtype, n_steps=5):
    """Bring the singular values of `matrices` [N, R, C] near one, keeping the singular vectors."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = (x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).to(dtype)
    for _ in range(n_steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).float()


class Muon:
    """Nesterov momentum, orthogonalised; matrices of one shape are stepped as one batch."""

    def __init__(self, params, momentum=0.95, weight_decay=0.1, dtype=torch.bfloat16):
        self.momentum, self.weight_decay, self.dtype = momentum, weight_decay, dtype
        shapes = sorted({tuple(p.shape) for p in params})
        self.groups = [[p for p in params if tuple(p.shape) == shape] for shape in shapes]
        self.buffers = [torch.zeros(len(group), *group[0].shape) for group in self.groups]

    @torch.no_grad()
    def step_group(self, index, lr):
        """Apply the gradients of one shape; `lr` is the spectral norm of a square change."""
        group, buffer = self.groups[index], self.buffers[index]
        grads = torch.stack([p.grad for p in group])
        buffer.lerp_(grads, 1 - self.momentum)
        update = orthogonalise(grads.lerp(buffer, self.momentum), self.dtype)
        rows, columns = group[0].shape
        scale = lr * max(1.0, rows / columns) ** 0.5
        for p, change in zip(group, update):
            p.mul_(1 - lr * self.weight_decay).sub_(change, alpha=scale)


class Optimizers:
    """Both optimizers over one model; `step` multiplies both peak learning rates by its `scale`."""

    def __init__(self, model, muon_lr, adam_lr, weight_decay, dtype):
        matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
        norms = [p for p in model.parameters() if p.ndim == 1]
        self.muon_lr, self.adam_lr = muon_lr, adam_lr
        self.muon = Muon(matrices, weight_decay=weight_decay, dtype=dtype)
        groups = [{"params": [model.embedding.weight], "weight_decay": weight_decay},
                  {"params": norms, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=adam_lr, betas=(0.9, 0.95))
        self.params = list(model.parameters())

    def step(self, scale, pool):
        """Apply and clear the gradients; the threads of `pool` share the work."""
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * scale
        jobs = [pool.submit(self.muon.step_group, index, self.muon_lr * scale)
                for index in range(len(self.muon.groups))]
        for job in [*jobs, pool.submit(self.adam.step)]:
            job.result()
        for p in self.params:
            p.grad = None

"""Check that an installed wheel's fused CPU scan loads and agrees with plain PyTorch."""

from __future__ import annotations

import torch

import clipmamba
from clipmamba.ops import backend_table, selective_scan

print(clipmamba.__file__)
for status in backend_table():
    print(f"{status.name:12}{'yes' if status.available else 'no':5}{status.reason}")

torch.manual_seed(0)
u, delta = torch.randn(2, 1, 40, 300)
A, (B, C) = -torch.rand(40, 16), torch.randn(2, 1, 16, 300)
tensors = [t.requires_grad_() for t in (u, delta, A, B, C)]
results = []
for backend in ("cpu", "torch"):  # a backend that can't run is an error
    out = selective_scan(*tensors, delta_softplus=True, backend=backend)
    results.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
for fused, plain in zip(*results, strict=True):
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-3)
print("the fused CPU scan runs")

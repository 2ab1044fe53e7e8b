"""Write the results of the shipped weights on small inputs, for tests/test_golden.py.

Run it after the weights were deliberately replaced:

    python scripts/make_golden.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from golden import FILE, compute


def main() -> None:
    """Compute with one thread and write the file."""
    torch.set_num_threads(1)
    tensors = compute()
    FILE.parent.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, FILE)
    print(f"{FILE}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()

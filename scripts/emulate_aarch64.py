"""The CPU scan's tests on an emulated aarch64 processor, where there is no real one.

    apt install g++-aarch64-linux-gnu qemu-user
    python scripts/emulate_aarch64.py

Every scan that the tests ask of the `cpu` backend is written to a file, done by the same source
compiled for aarch64 and run by qemu-user, and read back. It takes three minutes and says nothing
about speed.
"""

from __future__ import annotations

import bisect
import ctypes
import dataclasses
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest
import torch
from torch import Tensor

from clipmamba.ops.selective_scan import cpu

ROOT = Path(__file__).parents[1]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = (  # those of hatch_build.py, but a program
    "-std=c++17 -O3 -static -fno-exceptions -fno-rtti -fno-math-errno -fno-trapping-math "
    "-fno-signed-zeros -ffp-contract=fast"
)
TESTS = ("tests/ops/test_selective_scan.py", "tests/ops/test_cross_selective_scan.py")
LANES = 4


class Emulated:
    """Stands in for the functions of `cpu` that see tensors and call the library."""

    def __init__(self, program: Path):
        self.program, self.file = program, program.with_suffix(".scan")
        self.seen: list[torch.UntypedStorage] = []
        self.scans = 0
        self._view = cpu._view

    def view(self, t: Tensor | None, groups: int = 0) -> tuple[int, ...]:
        """`cpu._view`, which alone sees the tensors behind its numbers."""
        if t is not None:
            self.seen.append(t.untyped_storage())
        return self._view(t, groups)

    def run(
        self,
        library: cpu._Library,
        plan: cpu._Plan,
        views: tuple[tuple[int, ...], ...],
        tensors: tuple[Tensor | None, ...],
        backward: bool,
    ) -> None:
        """`cpu._run` on the other processor."""
        self.scans += 1
        self.seen += [t.untyped_storage() for t in tensors if t is not None]
        memory = {s.data_ptr(): s.nbytes() for s in self.seen if s.nbytes()}
        begins = sorted(memory)

        def word(pointer: int) -> int:
            place = bisect.bisect(begins, pointer) - 1
            return (place + 1) << 40 | (pointer - begins[place]) if pointer else 0

        words: list[float] = [*plan.sizes, plan.least]
        for data, *rest in (*plan.views, *views):
            words += [word(data), *rest]
        words += [word(cpu._pointer(t)) for t in tensors]
        sizes = [memory[begin] for begin in begins]
        head = struct.pack(f"2q{cpu._ARGS.size}s{len(sizes)}q", backward, len(sizes),
                           cpu._ARGS.pack(*words), *sizes)  # fmt: skip
        content = (ctypes.string_at(begin, memory[begin]) for begin in begins)
        self.file.write_bytes(b"".join((head, *content)))
        subprocess.run([EMULATOR, str(self.program), str(self.file)], check=True)
        result = memoryview(self.file.read_bytes())[len(head) :]
        for begin, size in zip(begins, sizes, strict=True):
            ctypes.memmove(begin, bytes(result[:size]), size)
            result = result[size:]
        self.seen.clear()


@click.command()
def main() -> None:
    """Compile, then run the tests of the scan."""
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            raise click.ClickException(f"{tool} is missing; see the head of this script")
    if cpu._LIBRARY is None:
        raise click.ClickException("the package was built without its CPU library; install again")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "scan"
        source = Path(__file__).with_suffix(".cpp")
        subprocess.run([COMPILER, *FLAGS.split(), str(source), "-o", str(program)], check=True)
        emulated = Emulated(program)
        cpu._view, cpu._run = emulated.view, emulated.run
        cpu._LIBRARY = dataclasses.replace(cpu._LIBRARY, isa="aarch64", lanes=LANES)
        code = pytest.main(["-q", "-k", "cpu", *(str(ROOT / test) for test in TESTS)])
        click.echo(f"{emulated.scans} scans on aarch64")
    sys.exit(code or not emulated.scans)  # tests that asked for none have shown nothing


if __name__ == "__main__":
    main()

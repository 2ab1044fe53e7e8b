"""Run the CPU scan's tests on an emulated aarch64 processor.

    apt install g++-aarch64-linux-gnu qemu-user
    python scripts/emulate_aarch64.py

Every scan that the tests run on the `cpu` backend is written to a file, computed by the same source
compiled for aarch64 under qemu-user, and read back. This takes three minutes and tells nothing
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
from torch import Tensor

from clipmamba.ops.selective_scan.backends import cpu
from clipmamba.ops.selective_scan.backends.cpu import arguments

ROOT = Path(__file__).parents[1]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = (  # those of hatch_build.py, but for a program
    "-std=c++17 -O3 -static -fno-exceptions -fno-rtti -fno-math-errno -fno-trapping-math "
    "-fno-signed-zeros -ffp-contract=fast"
)
TESTS = ("tests/ops/test_selective_scan.py", "tests/ops/test_cross_selective_scan.py")
LANES = 4


class Emulated:
    """Replacement for the function of the `cpu` backend that calls the library."""

    def __init__(self, program: Path):
        self.program, self.file = program, program.with_suffix(".scan")
        self.scans = 0

    def run(
        self,
        library: cpu.Library,
        sizes: arguments.Sizes,
        tensors: dict[str, Tensor | None],
        backward: bool,
        threads: int,
    ) -> None:
        """Run a scan as `cpu._run` does, on the emulated processor."""
        self.scans += 1
        storages = [t.untyped_storage() for t in tensors.values() if t is not None]
        memory = {s.data_ptr(): s.nbytes() for s in storages if s.nbytes()}
        begins = sorted(memory)

        def word(pointer: int) -> int:
            place = bisect.bisect(begins, pointer) - 1
            return (place + 1) << 40 | (pointer - begins[place]) if pointer else 0

        words = list(struct.unpack(arguments.FORMAT, arguments.pack(sizes, tensors)))
        for place in arguments.ADDRESSES:
            words[place] = word(words[place])
        packed = struct.pack(arguments.FORMAT, *words)
        counts = [memory[begin] for begin in begins]
        head = struct.pack(f"2q{len(packed)}s{len(counts)}q", backward, len(counts), packed,
                           *counts)  # fmt: skip
        content = (ctypes.string_at(begin, memory[begin]) for begin in begins)
        self.file.write_bytes(b"".join((head, *content)))
        subprocess.run([EMULATOR, str(self.program), str(self.file)], check=True)
        result = memoryview(self.file.read_bytes())[len(head) :]
        for begin, count in zip(begins, counts, strict=True):
            ctypes.memmove(begin, bytes(result[:count]), count)
            result = result[count:]


@click.command()
def main() -> None:
    """Compile, then run the tests of the scan."""
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            raise click.ClickException(f"{tool} is missing; see the head of this script")
    if cpu.LIBRARY is None:
        raise click.ClickException("the package was built without its CPU library; install again")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "scan"
        source = Path(__file__).with_suffix(".cpp")
        subprocess.run([COMPILER, *FLAGS.split(), str(source), "-o", str(program)], check=True)
        emulated = Emulated(program)
        cpu._run = emulated.run
        cpu.LIBRARY = dataclasses.replace(cpu.LIBRARY, isa="aarch64", lanes=LANES)
        code = pytest.main(["-q", "-k", "cpu", *(str(ROOT / test) for test in TESTS)])
        click.echo(f"{emulated.scans} scans on aarch64")
    sys.exit(code or not emulated.scans)  # without any scan, nothing was tested


if __name__ == "__main__":
    main()

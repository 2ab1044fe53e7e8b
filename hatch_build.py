"""Build hook: compile the CPU scan, one small library per instruction set, if there is a compiler.

Without a C++ compiler the wheel is pure Python and the scan runs in plain torch. With
CLIPMAMBA_REQUIRE_CPU_KERNEL=1 a missing library is an error.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCAN = Path("src/clipmamba/ops/selective_scan")
LIBRARIES = "clipmamba/ops/selective_scan/lib"
# No -ffast-math: it would undo the rounding trick in exp2 and lose NaNs.
FLAGS = [
    *("-std=c++17", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-exceptions"),
    *("-fno-rtti", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),
    "-ffp-contract=fast",
    "-falign-functions=64",  # otherwise speed depends on where the linker puts the loops
]
AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe", "-mpopcnt"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
TARGETS = {
    "x86_64": {"x86-64-v3": AVX2, "x86-64-v4": AVX2 + AVX512},
    "aarch64": {"aarch64": []},
}


class CpuKernels(BuildHookInterface[Any]):
    """Adds the libraries to the wheel, or puts them into the source tree of an editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries; hatchling calls this before it collects the wheel's files."""
        if self.target_name != "wheel":
            return
        editable = version == "editable"
        if editable:
            folder = Path(self.root) / SCAN / "lib"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        else:
            # kept until finalize, or if the build fails, until the builder is deleted
            self._temporary = tempfile.TemporaryDirectory(prefix="clipmamba-build-")
            folder = Path(self._temporary.name)
        libraries = self._compile(folder)
        if not libraries:
            return
        build_data["pure_python"] = False
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{tag}"
        if not editable:
            for library in libraries:
                build_data["force_include"][str(library)] = f"{LIBRARIES}/{library.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove files that were needed only while the wheel was packed."""
        if hasattr(self, "_temporary"):
            self._temporary.cleanup()

    def _compile(self, folder: Path) -> list[Path]:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
            platform.machine().lower(), platform.machine().lower()
        )
        targets = TARGETS.get(machine, {}) if sys.platform != "win32" else {}
        if not targets:
            return self._without(f"no CPU kernel for {machine} on {sys.platform}")
        compiler = self._compiler()
        if compiler is None:
            return self._without("no C++ compiler (c++, g++ or clang++) was found")
        libraries = []
        for name, flags in targets.items():
            library = folder / f"selective_scan-{name}.so"
            source = Path(self.root) / SCAN / "csrc" / "selective_scan.cpp"
            command = [*compiler, *FLAGS, *flags, str(source), "-o", str(library)]
            if sys.platform == "linux":
                command.append("-Wl,--as-needed")  # nothing of libstdc++ is used
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                self._without(f"{shlex.join(compiler)} could not build {library.name}: {last}")
            else:
                libraries.append(library)
        return libraries

    @staticmethod
    def _compiler() -> list[str] | None:
        for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
            words = shlex.split(name or "")
            if words and shutil.which(words[0]):
                return words
        return None

    def _without(self, reason: str) -> list[Path]:
        if os.environ.get("CLIPMAMBA_REQUIRE_CPU_KERNEL") == "1":
            raise RuntimeError(f"CLIPMAMBA_REQUIRE_CPU_KERNEL=1, but {reason}")
        self.app.display_warning(f"{reason}: the scan will run in plain torch, slower")
        return []

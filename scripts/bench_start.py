"""Time `clipmamba stylize` from a cold start to the network's first pass, beside `import torch`.

Both run in processes of their own, in turn; compare the ratio of the medians.

    python scripts/bench_start.py [--rounds 9] [--prompt "any words"]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

AIM = 1.5
# The command, which exits when the network is called for the first time.
_COMMAND = """
import sys
class Leave:
    def find_spec(self, name, path=None, target=None):
        if name != "clipmamba.models.stylizer":
            return None
        sys.meta_path.remove(self)
        import importlib.util, os
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def patched(module):
            load(module)
            module.Stylizer.forward = lambda *args, **keywords: os._exit(0)
        spec.loader.exec_module = patched
        return spec
sys.meta_path.insert(0, Leave())
from clipmamba.__main__ import main
main(prog_name="clipmamba")
"""


def main() -> None:
    """Run the benchmark and print its medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompt", default="a lighthouse drawn with chalk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.png")
        Image.linear_gradient("L").convert("RGB").save(photo)
        arguments = ["stylize", str(photo), "-p", options.prompt, "--device", "cpu"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "first pass": [sys.executable, "-c", _COMMAND, *arguments],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(options.rounds + 1):
            for name, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, check=True)
                if turn:  # the first run fills the disk cache
                    times[name].append(time.perf_counter() - started)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, value in median.items():
        print(f"{name:<14} median {value:.2f} s, min {min(times[name]):.2f} s")
    ratio = median["first pass"] / median["import torch"]
    print(f"ratio {ratio:.2f} (target: at most {AIM})")


if __name__ == "__main__":
    main()

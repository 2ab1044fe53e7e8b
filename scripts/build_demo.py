"""Build the browser demo, a folder of static files, or serve it.

npm install --prefix docs/demo
python scripts/build_demo.py
python scripts/build_demo.py --serve
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np

from clipmamba import StylizePipeline
from clipmamba.models.onnx_file import write_onnx
from clipmamba.styles import KNOWN_STYLES, Style

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "docs" / "demo"
RUNTIME = SOURCES / "node_modules" / "onnxruntime-web" / "dist"
PAGE_FILES = ("index.html", "style.css", "demo.js", "picture.js", "worker.js", "headers.js")
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with the two headers that let WebAssembly use threads."""

    def end_headers(self) -> None:
        """Add the headers of cross-origin isolation."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


Handler.extensions_map = {**Handler.extensions_map, ".mjs": "text/javascript"}


def serve(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of a folder on 127.0.0.1, for the caller to run."""
    handler = functools.partial(Handler, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def build(pipeline: StylizePipeline, runtime: Path, output: Path) -> None:
    """Write the page, the network, the style embeddings and onnxruntime-web's files.

    Args:
        pipeline: The pipeline to export, on the CPU.
        runtime: The folder `dist` of npm's onnxruntime-web.
        output: Folder to write to; created if missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "ort").mkdir(exist_ok=True)
    for name in PAGE_FILES:
        shutil.copyfile(SOURCES / name, output / name)
    for name in RUNTIME_FILES:
        shutil.copyfile(runtime / name, output / "ort" / name)
    write_onnx(pipeline.network, output / "stylizer.onnx", gamut=False)
    styles = [Style.text(style.name, pipeline.clip, pipeline.prior) for style in KNOWN_STYLES]
    points = [style.embedding.numpy() for style in styles]
    np.stack(points).astype("<f4").tofile(output / "styles.bin")
    model = {
        "margin": pipeline.stylizer.margin,
        "noise": pipeline.stylizer.config.noise,
        "noise_stride": pipeline.stylizer.noise_stride,
        "style_dim": pipeline.stylizer.config.style_dim,
        "styles": [
            {"name": known.name, "family": known.family, **style.traits._asdict()}
            for known, style in zip(KNOWN_STYLES, styles, strict=True)
        ],
    }
    (output / "model.json").write_text(json.dumps(model), encoding="utf-8")


@click.command()
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a saved pipeline, instead of the default weights.",
)
@click.option(
    "--runtime",
    type=click.Path(file_okay=False, path_type=Path),
    default=RUNTIME,
    help="The folder dist of npm's onnxruntime-web, where it is not in docs/demo/node_modules.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "build" / "demo",
    help="Where to write.  [default: build/demo]",
)
@click.option("--serve", "serves", is_flag=True, help="Only serve the built demo, until Ctrl+C.")
@click.option("--port", default=8000, show_default=True, help="For --serve.")
def main(model: Path | None, runtime: Path, output: Path, serves: bool, port: int) -> None:
    """Build the demo of docs/demo.md, or serve it on 127.0.0.1."""
    if serves:
        if not (output / "index.html").is_file():
            raise click.UsageError(f"no demo in {output}; build it first")
        with serve(output, port) as server:
            click.echo(f"http://127.0.0.1:{server.server_port}/")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return
    missing = [name for name in RUNTIME_FILES if not (runtime / name).is_file()]
    if missing:
        raise click.UsageError(
            f"{runtime} lacks {', '.join(missing)}; run: npm install --prefix docs/demo"
        )
    build(StylizePipeline.from_pretrained(model, "cpu"), runtime, output)
    click.echo(output)


if __name__ == "__main__":
    main()

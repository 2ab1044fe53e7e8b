"""What mkdocs does not do by itself: navigation from the index, and pages that lie beside docs/."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

INDEX = "README.md"
BESIDE = {  # as the index links to them: their place in the site
    "../assets/README.md": "photos.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
}
_ROW = re.compile(r"^\| \[[^]]+\]\(([^)]+)\)", re.MULTILINE)


def read_nav(index: str) -> list[dict[str, str | list[str]]]:
    """The sections of the index, each with the pages of its table."""
    nav: list[dict[str, str | list[str]]] = [{"Home": INDEX}]
    for section in index.split("\n## ")[1:]:
        title, _, table = section.partition("\n")
        nav.append({title: [BESIDE.get(page, page) for page in _ROW.findall(table)]})
    return nav


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the navigation from the index."""
    config.nav = read_nav((Path(config.docs_dir) / INDEX).read_text(encoding="utf-8"))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside docs/, their links seen from inside it."""
    for source, place in BESIDE.items():
        text = (Path(config.docs_dir) / source).read_text(encoding="utf-8")
        text = text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the index's pages by their titles, and lead to where the site has them."""

    def titled(row: re.Match[str]) -> str:
        source = Path(config.docs_dir) / row[1]
        title = source.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        return f"| [{title}]({BESIDE.get(row[1], row[1])})"

    return _ROW.sub(titled, markdown) if page.file.src_uri == INDEX else markdown

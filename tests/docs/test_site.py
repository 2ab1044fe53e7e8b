"""The documentation as a site: whole, without warnings, and sufficient to itself."""

from __future__ import annotations

import functools
import http.server
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("material")
ROOT = Path(__file__).parents[2]
LOADS = {  # what a browser fetches by itself, by tag
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "link": "href",
    "object": "data", "script": "src", "source": "src", "video": "src",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    return folder


class Page(HTMLParser):
    """What a page fetches, its headings, and how many lists, tables and blocks of code it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.counts = dict.fromkeys(("li", "table", "pre", "h2"), 0)
        self._depth = 0  # inside <article>
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if LOADS.get(tag) in values and values.get("rel") != "canonical":
            self.fetched.append(values[LOADS[tag]] or "")
        if "style" in values:
            self.fetched += re.findall(r"url\(([^)]*)\)", values["style"] or "")
        if "id" in values:
            self.ids.add(values["id"] or "")
        self._depth += tag == "article"
        if self._depth and tag in self.counts:
            self.counts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "article"


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 35
    for page in pages:
        for address in Page(page).fetched:
            assert not urlsplit(address).netloc, f"{page.relative_to(site)} fetches {address}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        for address in re.findall(r"(?:url\(|@import )['\"]?([^'\")]+)", text):
            assert not urlsplit(address).netloc, f"{sheet.relative_to(site)} fetches {address}"


def test_the_navigation_is_the_index_and_has_every_page(site: Path) -> None:
    nav = runpy.run_path(str(ROOT / "scripts/mkdocs_hooks.py"))["read_nav"](
        (ROOT / "docs/README.md").read_text(encoding="utf-8")
    )
    titles = [title for section in nav for title in section]
    assert titles == ["Home", "Start", "Use", "Train", "How it works", "API", "Project"]
    listed = [page for section in nav for pages in section.values() for page in pages]
    docs = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    docs = {page for page in docs if not page.startswith("demo/")}
    assert docs - set(listed) == {"README.md"}
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="quickstart/"' in home
    assert 'href="changelog/"' in home


def test_pages_show_what_they_show_in_the_repository(site: Path) -> None:
    """mkdocs' Markdown is not quite the usual one: a list may turn into text, say."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    kinds = {"list_item_open": "li", "table_open": "table", "fence": "pre", "code_block": "pre"}
    for file in (*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        if file.name == "README.md":
            place = site / "index.html"
        else:
            place = site / file.stem.lower() / "index.html"
        found = Page(place).counts
        wanted = dict.fromkeys(kinds.values(), 0)
        for token in markdown.parse(file.read_text(encoding="utf-8")):
            if token.type in kinds:
                wanted[kinds[token.type]] += 1
        assert {kind: found[kind] for kind in wanted} == wanted, file.name


def test_every_public_door_has_its_entry(site: Path) -> None:
    from test_public_names import PUBLIC

    ids = {name for page in (site / "api").rglob("*.html") for name in Page(page).ids}
    for module, names in PUBLIC.items():
        for name in names.split():
            if re.search(r"[a-z]", name) and name != "__version__":  # constants have no docstring
                assert any(entry.endswith(f".{name}") for entry in ids), f"{module}.{name}"
    for name in ("StylizePipeline.from_pretrained", "StylizeDiffusionPipeline", "publish"):
        assert any(entry.endswith(f".{name}") for entry in ids), name


def test_docstrings_are_shown_without_sphinx_markup(site: Path) -> None:
    pages = [page.read_text(encoding="utf-8") for page in (site / "api").rglob("*.html")]
    assert sum(page.count("<math") for page in pages) > 10
    for page in pages:
        assert not re.search(r"\.\. \w+::|:(func|class|meth|mod|data|math):", page)


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_search_finds_without_any_other_server(address: str, chromium) -> None:
    elsewhere: list[str] = []

    def decide(route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    with chromium.new_context(service_workers="block") as context:
        context.route("**/*", decide)
        page = context.new_page()
        page.goto(address)
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("cross_merge")
        found = page.locator(".md-search-result__link")
        found.first.wait_for()
        places = [link.get_attribute("href") for link in found.all()]
        assert any(place.startswith(f"{address}api/ops/") for place in places)
        found.first.click()
        page.wait_for_load_state()
        assert "cross_merge" in page.locator("article").inner_text()
    assert not elsewhere

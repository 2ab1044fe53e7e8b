"""Docstrings hold a little of Sphinx's markup, formulas and references; the site wants Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object
from latex2mathml.converter import convert

_BLOCK = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +\S.*| *(?=\n *\S)))*)", re.MULTILINE)
_ROLE = re.compile(r":(\w+):`~?([^`]+)`")


class SphinxMarkup(Extension):
    """Rewrites every docstring: formulas to MathML, which browsers draw without a script."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """Sphinx's roles and formulas as Markdown with MathML."""
    return _ROLE.sub(_role, _BLOCK.sub(_block, text))


def _block(match: re.Match[str]) -> str:
    indent, body = match.groups()
    formula = " ".join(textwrap.dedent(body).split())
    return f"{indent}<div>{convert(formula, display='block')}</div>\n"


def _role(match: re.Match[str]) -> str:
    role, target = match.groups()
    return convert(target) if role == "math" else f"`{target}`"

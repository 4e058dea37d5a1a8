"""Our docstrings as the reference wants them."""

from __future__ import annotations

import io
import re
import tokenize
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


class Docstrings(griffe.Extension):
    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """A dataclass explains a field in a comment at the end of its line."""
        if attr.docstring is None and attr.parent and attr.parent.is_class:
            comment = comment_of(attr.lines)
            if comment:
                attr.docstring = griffe.Docstring(comment[0].upper() + comment[1:], parent=attr)

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Examples are set as code."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)


def comment_of(lines: list[str]) -> str:
    """The comments at the ends of a statement's lines."""
    tokens = tokenize.generate_tokens(io.StringIO("\n".join(map(str.strip, lines)) + "\n").readline)
    return " ".join(token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT)

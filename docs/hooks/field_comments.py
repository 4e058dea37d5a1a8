"""Our dataclasses explain a field in a comment at the end of its line; here it becomes the field's docstring."""

from __future__ import annotations

import io
import tokenize
from typing import Any

import griffe


def comment_of(lines: list[str]) -> str:
    """The comment at the end of a statement, or of the lines of one."""
    tokens = tokenize.generate_tokens(io.StringIO("\n".join(line.strip() for line in lines) + "\n").readline)
    return " ".join(token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT)


class FieldComments(griffe.Extension):
    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.parent and attr.parent.is_class and attr.lines:
            if comment := comment_of(attr.lines):
                attr.docstring = griffe.Docstring(comment[0].upper() + comment[1:], parent=attr)

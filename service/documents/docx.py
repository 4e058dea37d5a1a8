"""Word documents: the paragraphs of body, tables, headers, footers, notes and text boxes.

Runs with the same formatting (Word parts them for its spelling checker, too) are one stretch; its translation goes
into the first of them. Every part of the archive without a change is copied as it is. Not translated: fields' codes,
text that was deleted under tracking, charts, properties.
"""

from __future__ import annotations

import io
import lzma
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from lxml import etree

from model.errors import UserError
from service.documents.inline import MARK, TEXT, Piece, Unit
from service.documents.record import DOCUMENT_BYTES, Options, Record, read_whole

_PARTS = re.compile(r"word/(?:document|header\d*|footer\d*|footnotes|endnotes)\.xml")
_TEXT_BYTES = 4 * DOCUMENT_BYTES  # of all parts that hold text, unpacked
_UNPACKED_BYTES = 16 * DOCUMENT_BYTES  # of all, pictures included
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, ValueError)  # what zipfile makes of it
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}document"
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_BREAKS = frozenset(_W + name for name in ("tab", "br", "cr", "ptab"))
_INVISIBLE = frozenset(
    _W + name for name in ("pPr", "rPr", "instrText", "del", "moveFrom", "proofErr", "bookmarkStart", "bookmarkEnd")
)
_HYPHENS = {_W + "noBreakHyphen": "\u2011", _W + "softHyphen": "\xad"}

Stretch = list[Any]  # w:t elements whose text is one stretch of words; empty where a mark stands


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    """One record: the document."""
    data = read_whole(file)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if _PARTS.fullmatch(info.filename)]
            for what, some, limit in (("text", infos, _TEXT_BYTES), ("all", archive.infolist(), _UNPACKED_BYTES)):
                size = sum(info.file_size for info in some)
                if size > limit:
                    raise UserError(f"{size} bytes of {what} when unpacked, the limit is {limit}; split the document")
            if damaged := archive.testzip():
                raise UserError(f"not a Word document (.docx): {damaged} in it is damaged")
            parts = {info.filename: archive.read(info) for info in infos}
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
        trees = {name: etree.fromstring(content, parser) for name, content in parts.items()}
    except (*_DAMAGED, etree.XMLSyntaxError, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(f"not a Word document (.docx): {' '.join(str(error).split())}") from None
    if "word/document.xml" not in trees:
        raise UserError("not a Word document (.docx): it has no word/document.xml")
    if trees["word/document.xml"].tag == _STRICT:
        raise UserError("not the usual kind of Word document, but Strict Open XML; save it as Word Document (.docx)")
    for tree in trees.values():
        for element in list(tree.iter(*_HYPHENS)):  # as characters they are a part of their word
            element.tag, element.text = _W + "t", _HYPHENS[element.tag]
    units = [
        (name, stretches, _unit(stretches, options.source))
        for name, tree in trees.items()
        for paragraph in tree.iter(_W + "p")
        for stretches in _stretches(paragraph)
    ]

    def render(found: Sequence[Any]) -> bytes:
        translations = iter([translation.hypotheses[0].text for translation in found])
        changed = set()
        for name, stretches, unit in units:
            new = [next(translations) for _ in unit.texts]
            if new != list(unit.texts):
                _write(stretches, unit.fragments(new))
                changed.add(name)
        return _archive(data, {name: _xml(trees[name]) for name in changed}) if changed else data

    yield Record("document", data, tuple(text for *_, unit in units for text in unit.texts), render)


def _stretches(paragraph: Any) -> Iterator[list[Stretch]]:
    """The units of a paragraph, which tabs and line breaks part, as stretches of equal formatting."""
    unit: list[Stretch] = []
    before: object = None
    for element in _visible(paragraph):
        if element.tag in _BREAKS:
            yield unit
            unit, before = [], None
        elif element.tag == _W + "t":
            run = element.getparent()
            properties = run.find(_W + "rPr")
            formatting = (run.getparent(), b"" if properties is None else etree.tostring(properties, with_tail=False))
            if unit and formatting == before:
                unit[-1].append(element)
            else:
                unit.append([element])
            before = formatting
        elif element.tag not in (
            _W + "r",
            _W + "hyperlink",
            _W + "ins",
            _W + "moveTo",
            _W + "smartTag",
            _W + "sdt",
            _W + "sdtContent",
        ):
            unit.append([])
            before = None
    yield unit


def _visible(element: Any) -> Iterator[Any]:
    """All below the paragraph, in order, but no paragraphs within it, such as those of a text box."""
    for child in element:
        if child.tag in _INVISIBLE or child.tag == _W + "p":
            continue
        yield child
        if child.tag != _W + "t":
            yield from _visible(child)


def _unit(stretches: list[Stretch], language: str) -> Unit:
    texts = ["".join(element.text or "" for element in stretch) for stretch in stretches]
    pieces = [Piece(TEXT, text, text) if text else Piece(MARK, "") for text in texts]
    return Unit("".join(texts), pieces, language)


def _write(stretches: list[Stretch], texts: list[str]) -> None:
    for stretch, text in zip(stretches, texts, strict=True):
        for index, element in enumerate(stretch):
            element.text = "" if index else "".join(c for c in text if c >= " ")  # XML has no control characters
            element.set(_SPACE, "preserve")


def _xml(tree: Any) -> bytes:
    return etree.tostring(tree.getroottree(), xml_declaration=True, encoding="UTF-8", standalone=True)


def _archive(data: bytes, changed: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        new.comment = old.comment
        for info in old.infolist():
            if info.filename in changed:
                new.writestr(info, changed[info.filename])
            else:
                with old.open(info) as before, new.open(info, "w") as after:
                    shutil.copyfileobj(before, after)
    return out.getvalue()

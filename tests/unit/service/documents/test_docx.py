from __future__ import annotations

import io
import zipfile

import docx
import pytest
from test_round_trip import translated

from model.errors import UserError


@pytest.fixture(scope="module")
def document() -> bytes:
    """Runs of several kinds, a table, a header, a list."""
    word = docx.Document()
    word.add_heading("The title", level=1)
    paragraph = word.add_paragraph("Some ")
    paragraph.add_run("bold").bold = True
    paragraph.add_run(" wo")
    paragraph.add_run("rds\tand a tab.")  # same formatting: one stretch
    word.add_paragraph("An item", style="List Bullet")
    table = word.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    word.sections[0].header.paragraphs[0].text = "The header"
    out = io.BytesIO()
    word.save(out)
    return out.getvalue()


def model(data: bytes) -> list[tuple[str, str, list[tuple[str, bool | None]]]]:
    word = docx.Document(io.BytesIO(data))
    paragraphs = [*word.paragraphs, *(p for t in word.tables for c in t._cells for p in c.paragraphs)]
    paragraphs += word.sections[0].header.paragraphs
    return [(p.style.name, p.text, [(run.text, run.bold) for run in p.runs]) for p in paragraphs]


def test_the_same_document_comes_back(document: bytes) -> None:
    assert translated("docx", document)[0] == document


def test_only_words_change(document: bytes) -> None:
    out = translated("docx", document, str.upper)[0]
    old, new = model(document), model(out)
    assert [(style, text) for style, text, _ in new] == [(style, text.upper()) for style, text, _ in old]
    assert new[1][2] == [("SOME ", None), ("BOLD", True), (" WORDS", None), ("\tAND A TAB.", None)]
    with zipfile.ZipFile(io.BytesIO(document)) as a, zipfile.ZipFile(io.BytesIO(out)) as b:
        assert a.namelist() == b.namelist()
        same = [name for name in a.namelist() if a.read(name) == b.read(name)]
    assert set(a.namelist()) - set(same) == {"word/document.xml", "word/header1.xml"}


def test_a_run_of_space_takes_the_punctuation_of_the_translation() -> None:
    word = docx.Document()
    paragraph = word.add_paragraph("Click ")
    paragraph.add_run("here").bold = True
    paragraph.add_run(" ").italic = True
    paragraph.add_run("to read").bold = True
    word.save(out := io.BytesIO())
    new = iter(["Klicken Sie hier, um zu lesen", "Klick ", "hier", "lesen"])
    _, text, runs = model(translated("docx", out.getvalue(), lambda _: next(new))[0])[0]
    assert text == "Klicken Sie hier, um zu lesen"
    assert runs == [("Klicken Sie ", None), ("hier", True), (", ", None), ("um zu lesen", True)]


def with_body(document: bytes, body: str, namespace: str = "schemas.openxmlformats.org/wordprocessingml/2006") -> bytes:
    xml = f'<w:document xmlns:w="http://{namespace}/main"><w:body>{body}</w:body></w:document>'
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(document)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            new.writestr(info, xml if info.filename == "word/document.xml" else old.read(info))
    return out.getvalue()


def test_hyphens_are_a_part_of_their_word_and_what_was_moved_away_is_not_there(document: bytes) -> None:
    read = []

    def change(text: str) -> str:
        read.append(text)
        return text.upper()

    run = "<w:r>{}</w:r>"
    hyphens = '<w:t>e</w:t><w:noBreakHyphen/><w:t>mail in ru</w:t><w:softHyphen/><w:t xml:space="preserve">ns </w:t>'
    gone, there = run.format("<w:t>big</w:t>"), run.format("<w:t>small</w:t>")
    deleted = f"<w:del>{run.format('<w:delText>e</w:delText><w:noBreakHyphen/>')}</w:del>"
    moved = f"{deleted}<w:moveFrom>{gone}</w:moveFrom><w:moveTo>{there}</w:moveTo>"
    out = translated("docx", with_body(document, f"<w:p>{run.format(hyphens)}{moved}</w:p>"), change)[0]
    assert read[0] == "e\u2011mail in ru\xadns small"
    with zipfile.ZipFile(io.BytesIO(out)) as archive:
        xml = archive.read("word/document.xml").decode()
    assert "E\u2011MAIL" in xml and "SMALL" in xml and "<w:t>big</w:t>" in xml and "noBreakHyphen" not in xml


def test_a_kind_of_document_that_is_not_read(document: bytes) -> None:
    strict = with_body(document, "<w:p><w:r><w:t>text</w:t></w:r></w:p>", "purl.oclc.org/ooxml/wordprocessingml")
    with pytest.raises(UserError, match=r"Strict Open XML; save it as Word Document \(.docx\)"):
        translated("docx", strict)


def test_what_is_no_document() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "b")
    for data in (b"", b"PK", b"text", archive.getvalue()):
        with pytest.raises(UserError, match="not a Word document"):
            translated("docx", data)


def test_a_damaged_document_is_known_before_it_is_translated(document: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(document)) as archive:
        places = {info.filename: info.header_offset for info in archive.infolist()}
    for name in ("word/document.xml", "docProps/thumbnail.jpeg"):
        at = places[name] + 30 + len(name) + 200  # behind the header of the file, in its data
        with pytest.raises(UserError, match="not a Word document"):
            translated("docx", document[:at] + bytes(8) + document[at + 8 :])
    end = document.rindex(b"PK\5\6") + 12  # where the size of the directory stands, and its place
    with pytest.raises(UserError, match="not a Word document"):
        translated("docx", document[:end] + b"\xff" * 8 + document[end + 8 :])


def test_an_archive_that_unpacks_to_too_much() -> None:
    """No part alone is over the limit, and nothing is unpacked."""
    for name, parts, message in (
        ("word/header{}.xml", 5, "73400320 bytes of text when unpacked, the limit is 67108864"),
        ("word/media/{}.bmp", 19, "278921216 bytes of all when unpacked, the limit is 268435456"),
    ):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for number in range(parts):
                file.writestr(name.format(number), bytes(14 << 20))
        with pytest.raises(UserError, match=message):
            translated("docx", archive.getvalue())

"""With a translator that changes nothing the same bytes come back, and with one that changes words, only they do."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import polib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.errors import UserError
from service.documents import FORMATS, Options, subtitles
from service.documents.table import Dialect, _is_open, _joined


def translated(
    format: str, data: bytes, change: Callable[[str], str] = lambda text: text, columns: tuple[str, ...] = ("text",)
) -> tuple[bytes, list[str]]:
    """The output, and the reasons of bad records."""
    out, reasons = [], []
    for record in FORMATS[format].read(io.BytesIO(data), Options("en", columns)):
        if record.reason:
            reasons.append(record.reason)
            out.append(record.instead)
        elif record.render:
            out.append(record.render([translation(change(text)) for text in record.texts]))
        else:
            out.append(record.raw)
    return b"".join(out), reasons


def translation(text: str) -> Any:
    return SimpleNamespace(hypotheses=(SimpleNamespace(text=text, score=0.0),))


MARKDOWN = """\
---
title: Not this
---

Title *here*
============

Some **bold** words, `code`, a [link](http://a.b/c_(d) "the title"), [ref] and [text][ref].
A second line with trailing spaces  \\
and <b>HTML</b> &amp; an entity, \\*no emphasis\\*, 2 * 3 * 4, snake_case and $x^2$ {{ var }}.

> quoted **text
> over** two lines
>
> - item one
>   goes on
>     1. deep
>
>            indented code in it

* [ ] task
* [x] done ![alt text](a.png)

| a | b \\| c |
|---|:-:|
| **x** y | `z` |

```python
# not this
```

    nor this

<div class="a">
<p title="seen">block <i>html</i></p>
</div>

[ref]: http://example.com "Ref"
Footnote[^1].

[^1]: The note.

***

<!-- comment -->
Last line without end"""

HTML = """\
<!DOCTYPE html>
<!-- a comment with <b>tags</b> -->
<html lang="en"><head><meta charset=utf-8><title>The &amp; title</title>
<meta name="description" content='A "page"'>
<script>if (a < b && c > d) { document.write("<p>no</p>"); }</script>
<style>p > a { color: red }</style></head>
<body><h1>Hello, <em>big</em>
   world</h1><p>One &lt;two&gt; &nbsp;three &uuml; &#39;x&#39;<br/>
after<img src=x alt="An image" />  end. <a href='u' title="a &quot;t&quot;">Click <b>here</b></a>, please.
<p>unclosed <code>x = 1</code> code <span translate=no>Keep Me</span>
<ul><li>a<li>b <ul><li>c</li></ul></ul>
<pre>  keep
   this </pre><textarea>and this</textarea>
<INPUT type=submit value="Send"><svg><text>no</text></svg>
<table><tr><td>1<td>cell &copy 2 < 3</table>
{{ template }} and {% if x %} more {% endif %}
</body></html><!-- end -->
<p>unfinished <b"""

SRT = """\
1
00:00:01,000 --> 00:00:02,500
<i>Hello there,
my friend.</i>

2
00:00:03,000 --> 00:00:04,000 X1:1
- Who?
- {\\an8}Me.


3
00:00:05,000 --> 00:00:06,000

4
00:00:07,000 --> 00:00:08,000
Last"""

CSV = 'id,text,"more, of it"\r\n1,"a ""quoted"", b",x\r\n\r\n2,"two\nlines",\r\n"3",5" disk,"z"\r\n'
JSONL = """\
{"text": "a \\u00e4 \\n", "n": 1.0e5, "x" : [ {"text":"no"} ]}

  {"n":null,"text":  null, "text":"twice"}
{"text":"ö / \\/ \\ud83d\\ude00"}
"""
PO = r"""# comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

#: a.c:1
#, python-format
msgctxt "menu"
msgid "Open %(name)s \"now\"\n"
msgstr ""

msgid ""
"long "
"text"
msgstr "done"

msgid "one file"
msgid_plural "%d files"
msgstr[0] ""
msgstr[1] ""

#~ msgid "old"
#~ msgstr ""
"""


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("markdown", MARKDOWN),
        ("html", HTML),
        ("subtitles", SRT),
        ("csv", CSV),
        ("jsonl", JSONL),
        ("text", MARKDOWN),
        ("tsv", 'id\ttext\n1\t"a" b\n\n2\tb\n'),
    ],
)
def test_nasty_documents_come_back(format: str, text: str) -> None:
    for variant in (text, "\ufeff" + text, text.replace("\r\n", "\n").replace("\n", "\r\n"), text.rstrip()):
        data = variant.encode()
        out, reasons = translated(format, data)
        assert (out, reasons) == (data, [])


@pytest.mark.parametrize("format", ["markdown", "html", "subtitles", "po"])
@given(
    text=st.text(st.sampled_from("a b\n\r\t<>/&;*_`[]()!#-|\\\"'{}%$~:.=1\xa0ü"), max_size=60)
    | st.lists(
        st.sampled_from(["<b>", "</b>", "<p>", "<code>", "</code>", "<!--", "-->", "<script>", "a b.", "**", "> "])
    ).map("".join)
)
@example(text="<![1")
@example(text="<p>a</p><![1><p>b</p>")
@settings(max_examples=150, deadline=None)
def test_anything_comes_back(format: str, text: str) -> None:
    assert translated(format, text.encode())[0] == text.encode()


@pytest.mark.parametrize("format", ["markdown", "html", "subtitles"])
@given(
    text=st.lists(st.sampled_from(["**", "*", "<b>", "</b>", "`c d`", "one", "two.", " ", "\n", "{{ x }}", "- "])).map(
        "".join
    )
)
@example(text="** <b> one")
@example(text="** <b> **one")
@example(text="one<b>one`c d`")
@settings(max_examples=150, deadline=None)
def test_no_word_and_no_mark_is_lost(format: str, text: str) -> None:
    """A translator that upper-cases finds every stretch: only letters change (and white space, at line breaks)."""
    out = translated(format, text.encode(), str.upper)[0].decode()
    assert out.lower().split() == text.lower().split() or format == "markdown"
    assert sorted(out.lower().replace("\\", "").split()) == sorted(text.lower().split())


def test_markdown() -> None:
    out = translated("markdown", MARKDOWN.encode(), str.upper)[0].decode()
    for line in (
        "title: Not this",
        "TITLE *HERE*",
        'SOME **BOLD** WORDS, `code`, A [LINK](http://a.b/c_(d) "THE TITLE"), [REF][ref] AND [TEXT][ref]. A SECOND',
        "AND <b>HTML</b> &amp; AN ENTITY".replace("&amp;", "&"),
        "\\*NO EMPHASIS\\*, 2 \\* 3 \\* 4, SNAKE_CASE AND $x^2$ {{ var }}.",
        "> QUOTED **TEXT OVER** TWO LINES",
        ">     1. DEEP",
        ">            indented code in it",
        "* [ ] TASK\n* [x] DONE ![ALT TEXT](a.png)",
        "| A | B \\| C |\n|---|:-:|\n| **X** Y | `z` |",
        "# not this",
        "    nor this",
        '<p title="SEEN">BLOCK <i>HTML</i></p>',
        '[ref]: http://example.com "Ref"',
        "FOOTNOTE[^1].",
        "[^1]: THE NOTE.",
        "LAST LINE WITHOUT END",
    ):
        assert line in out


def test_markdown_does_not_become_another_block() -> None:
    assert translated("markdown", b"October 3rd", lambda _: "3. Oktober")[0] == b"3\\. Oktober"
    assert translated("markdown", b"Plus", lambda _: "+ mehr")[0] == b"\\+ mehr"
    assert translated("markdown", b"a &lt;b&gt;")[0] == b"a &lt;b&gt;"
    assert translated("markdown", b"a &lt;b&gt;", str.upper)[0] == b"A &lt;B>"


def test_html() -> None:
    out = translated("html", HTML.encode(), str.upper)[0].decode()
    for line in (
        "<title>THE &amp; TITLE</title>",
        """<meta name="description" content='A &quot;PAGE&quot;'>""",
        'document.write("<p>no</p>")',
        "<h1>HELLO, <em>BIG</em>\n   WORLD</h1>",
        "ONE &lt;TWO&gt; &nbsp;THREE Ü 'X'<br/>\nAFTER<img src=x alt=\"AN IMAGE\" />  END. ",
        """<a href='u' title="A &quot;T&quot;">CLICK <b>HERE</b></a>, PLEASE.""",
        "UNCLOSED <code>x = 1</code> CODE <span translate=no>Keep Me</span>",
        "<li>A<li>B <ul><li>C</li></ul>",
        "<pre>  keep\n   this </pre><textarea>and this</textarea>",
        '<INPUT type=submit value="SEND"><svg><text>no</text></svg>',
        "{{ template }} AND {% if x %} MORE {% endif %}",
    ):
        assert line in out


def test_subtitles() -> None:
    out = translated("subtitles", SRT.encode(), str.upper)[0].decode()
    assert "<i>HELLO THERE,\nMY FRIEND.</i>\n" in out
    assert "X1:1\n- WHO?\n- {\\an8}ME.\n" in out
    one = translated("subtitles", b"1\n00:00:01,000 --> 00:00:02,500\na b\nc\n", lambda _: "long words here now")[0]
    assert one.endswith(b"\nlong words\nhere now\n")
    time = "00:00:01,000 --> 00:00:02,500\n"
    tagged = f"{time}  Thank\n  you.\n\n{time}<i>We are</i>\n<i>going - never - away</i>\n"
    found = translated("subtitles", tagged.encode(), str.upper)[0].decode()
    assert [block.count("\n") for block in found.split("\n\n")] == [2, 3]  # no empty line, and none more
    close = "1\n00:00:01,000 --> 00:00:02,000\nhello.\n2\n00:00:03,000 --> 00:00:04,000\nbye,\nthen\n"
    close += "00:05.000 --> 00:06.000\nend"
    assert translated("subtitles", close.encode(), str.upper)[0].decode() == close.replace("hello", "HELLO").replace(
        "bye,\nthen", "BYE,\nTHEN"
    ).replace("end", "END")


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from("ab <>\t"), max_size=40), count=st.integers(1, 6))
def test_subtitles_are_wrapped_at_the_nearest_spaces(text: str, count: int) -> None:
    """The definition, which looks through the rest of the text for each line."""
    lines, rest = [], text
    for left in range(count, 1, -1):
        spaces = [match for match in re.finditer(r"\s+(?![^<>]*>)", rest.rstrip()) if match.start()]
        if not spaces:
            break
        space = min(spaces, key=lambda match: abs(match.start() - len(rest) / left))
        lines.append(rest[: space.start()])
        rest = rest[space.end() :]
    assert subtitles._wrap(text, count) == [*lines, rest]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<ul><li translate=no>Acme<li>two</ul><p>after", "<ul><li translate=no>Acme<li>TWO</ul><p>AFTER"),
        ("<ul><li translate=no>a<ul><li>b</ul>c<li>d</ul>", "<ul><li translate=no>a<ul><li>b</ul>c<li>D</ul>"),
        ("<ul><li translate=no>a</ul><p>b", "<ul><li translate=no>a</ul><p>B"),
        ("<p translate=no>a <b>b</b><p>c</p>", "<p translate=no>a <b>b</b><p>C</p>"),
        ("<div><p translate=no>a</div>b", "<div><p translate=no>a</div>B"),
        ("<tr><td class=notranslate>a<td>b<tr><td>c", "<tr><td class=notranslate>a<td>B<tr><td>C"),
        ("<dl><dt translate=no>a<dd>b</dl>", "<dl><dt translate=no>a<dd>B</dl>"),
        ("<p>a <code>b</p><p>c <code>d</code> e</p>f", "<p>A <code>b</p><p>C <code>d</code> E</p>F"),
        ("<html translate=no><body><p>a", "<html translate=no><body><p>a"),
        (
            "<table><thead translate=no><tr><th>a<tbody><tr><td>b",
            "<table><thead translate=no><tr><th>a<tbody><tr><td>B",
        ),
        ("<section translate=no><p>a</p>b", "<section translate=no><p>a</p>b"),
        ("<p translate=no>a</br>b</b>c<p>d", "<p translate=no>a</br>b</b>c<p>D"),
        ("<li translate=no>a</p>b<li>c", "<li translate=no>a</p>b<li>C"),
        ("<p translate=no>a<button><div>b</div></button>c<p>d", "<p translate=no>a<button><div>b</div></button>c<p>D"),
        ("<div translate=no>a<div>b</div>c</div>d", "<div translate=no>a<div>b</div>c</div>D"),
        ("<p>a</p><script>b", "<p>A</p><script>b"),
    ],
)
def test_what_is_not_translated_ends(page: str, expected: str) -> None:
    assert translated("html", page.encode(), str.upper)[0].decode() == expected


def test_po() -> None:
    out = translated("po", PO.encode(), str.upper)[0].decode()
    entries = {entry.msgid: entry for entry in polib.pofile(out)}
    assert entries['Open %(name)s "now"\n'].msgstr == 'OPEN %(name)s "NOW"\n'
    assert entries["long text"].msgstr == "done"
    assert entries["one file"].msgstr_plural == {0: "ONE FILE", 1: "%d FILES"}
    assert polib.pofile(out).metadata == polib.pofile(PO).metadata
    kept = [line for line in out.splitlines() if "msgstr" not in line]
    assert kept == [line for line in PO.splitlines() if "msgstr" not in line]
    same = translated("po", PO.encode())[0].decode()
    assert 'msgstr[1] "%d files"' in same
    assert translated("po", same.encode(), str.upper)[0].decode() == same  # what is translated stays


def test_tables() -> None:
    out, reasons = translated("csv", CSV.encode(), str.upper)
    expected = CSV.replace("a ", "A ").replace("quoted", "QUOTED").replace(", b", ", B").replace("two\nl", "TWO\nL")
    assert out.decode() == expected.replace("Lines", "LINES").replace('5" disk', '"5"" DISK"')
    assert not reasons
    doubled = 'a,text\n1,"the ""one""\nand ""two"""\n'
    assert translated("csv", doubled.encode(), str.upper) == (b'a,text\n1,"THE ""ONE""\nAND ""TWO"""\n', [])
    marked = '\ufeff"id\nno",text\n1,hello\n'
    assert translated("csv", marked.encode(), str.upper) == (marked.replace("hello", "HELLO").encode(), [])
    out, reasons = translated("csv", b'1;a\n2;"open\n3;b;c\n4;d\n', str.upper, columns=("2",))
    assert out == b"1;A\n4;D\n"
    assert [reason.split(":")[0] for reason in reasons] == ["malformed row", "a row of 3 cells, the first row has 2"]
    for column in ("text", "²"):
        with pytest.raises(UserError, match=f"no column '{column}'; there are a, b"):
            translated("csv", b"a,b\n1,2\n", columns=(column,))


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.sampled_from(["a", '"', '""', ",", "\n", '",', ',"'])).map("".join))
def test_a_row_goes_on_while_a_quoted_cell_is_open(text: str) -> None:
    """The definition, which looks at the whole row again with each line."""
    lines, dialect = text.splitlines(keepends=True), Dialect(",", quoting=True)
    wanted, at = [], 0
    while at < len(lines):
        ends = [end for end in range(at + 1, len(lines) + 1) if not _is_open("".join(lines[at:end]), dialect)]
        wanted.append("".join(lines[at : ends[0]]) if ends else lines[at])
        at = ends[0] if ends else at + 1
    raw = ((number, line.encode(), line, "") for number, line in enumerate(lines))
    assert [row[2] for row in _joined(raw, dialect)] == wanted


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("subtitles", "00:01.000 --> 00:02.000\n" + "a b\n" * 20_000),
        ("subtitles", "00:01.000 --> 00:02.000\n" + 2 * ("<a " * 60_000 + "\n")),
        ("subtitles", "00:01.000 --> 00:02.000\na" + " " * 200_000 + "b\nc\n"),
        ("subtitles", "00:01.000 --> 00:02.000\na\n" + " " * 200_000 + "b\n"),
        ("markdown", "x " + "{{ " * 40_000),
        ("markdown", "x " + "{% " * 40_000),
        ("markdown", "a<!-- " * 20_000),
        ("markdown", "a" + " " * 200_000 + "b"),
        ("markdown", "a" + "\xa0" * 200_000 + "b"),
        ("markdown", "a" + "*" * 500_000 + " b"),
        ("csv", 'a,text\n1,"' + ("x" * 500 + '""\n') * 900 + '"\n'),
    ],
)
def test_no_text_takes_long(format: str, text: str) -> None:
    """Each took seconds to minutes where the rest of the text was looked at again and again."""
    began = time.process_time()
    assert translated(format, text.encode(), str.upper)[1] == []
    assert time.process_time() - began < 10  # 0.1 to 1 s on a free core


def test_jsonl() -> None:
    data = b'{"a": {"b": "x \\u00fc"}, "text": "y"}\n{"text": 1}\n[1]\n{"text": "a"} x\n{"other": 2}\n{"text": "z"\n'
    out, reasons = translated("jsonl", data, str.upper, columns=("text", "a.b"))
    assert out == b'{"a": {"b": "X \\u00dc"}, "text": "Y"}\n{"text": 1}\n'
    assert [reason.split(":")[0] for reason in reasons] == ["malformed JSON"] * 2 + [
        "no key text or a.b",
        "malformed JSON",
    ]
    lists = b'{"text": [ "a\\n" , 1, ["b"], "c"], "no": ["d"]}\n{"text": []}\n{"text": ["a",]}\n'
    out, reasons = translated("jsonl", lists, str.upper, columns=("text",))
    assert out == b'{"text": [ "A\\n" , 1, ["b"], "C"], "no": ["d"]}\n{"text": []}\n'
    assert len(reasons) == 1


def test_bad_lines_keep_their_place() -> None:
    out, reasons = translated("text", b"a\r\n\xff\r\n\xffb\nc", str.upper)
    assert out == b"A\r\n\r\n\nC"
    assert len(reasons) == 2


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.documents.text.LINE_BYTES", 10)
    out, reasons = translated("text", b"a\n" + b"x" * 35 + b"\n0123456789\nb", str.upper)
    assert out == b"A\n\n0123456789\nB".replace(b"0123456789", b"")
    assert len(reasons) == 2 and "the line is longer than" in reasons[0]


@pytest.mark.parametrize("format", ["markdown", "html", "subtitles", "po"])
def test_documents_that_cannot_be_read(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"line 2: byte 2 \(0xff\) is not valid UTF-8"):
        translated(format, b"a\nb\xff")
    monkeypatch.setattr("service.documents.record.DOCUMENT_BYTES", 3)
    with pytest.raises(UserError, match="the limit of a document; split it"):
        translated(format, b"abcd")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>a <![foo]> cat</p>", "<p>A <![foo]> CAT</p>"),
        ("<p>a</p><![1><p>b</p>", "<p>A</p><![1><p>B</p>"),
        ("a <![CDATA[ b > c", "A <![CDATA[ b > C"),
        ("<![if IE]>b<![endif]> c", "<![if IE]>B<![endif]> C"),
        ("a <!-- b --> c", "A <!-- b --> C"),
    ],
)
def test_what_is_a_comment_in_a_browser_stays(page: str, expected: str) -> None:
    assert translated("html", page.encode(), str.upper)[0].decode() == expected

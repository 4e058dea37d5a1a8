"""The web page: translation as you type, and all that an answer says. Before a server with a stand-in for the model."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browser import ANSWER, LIMIT, Tab, answer_with, axe, needs_chromium, shows
from playwright.sync_api import expect

pytestmark = [needs_chromium, pytest.mark.slow]

# ---- translation as you type


def test_typing_makes_one_call_when_it_rests(page: Tab) -> None:
    sent = answer_with(page, "translate", ANSWER | {"translatedText": "x"})
    page.focus("#text")
    page.keyboard.type("Good morning.", delay=5)
    shows(page, "x")
    assert [one["q"] for one in sent] == ["Good morning."]


def test_an_outdated_call_is_cancelled(page: Tab) -> None:
    held: list[Any] = []
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.post_data_json["q"]))

    def handle(route: Any) -> None:
        if route.request.post_data_json["q"] == "old":
            held.append(route)  # never answered
        else:
            route.continue_()

    page.route("**/translate", handle)
    with page.expect_request("**/translate"):
        page.type("old")
    page.type("new")
    shows(page, "NEW")
    assert len(held) == 1
    assert failed == ["old"]


def test_a_late_answer_never_overwrites_a_newer_one(page: Tab) -> None:
    """Even where the call cannot be stopped any more."""
    found = page.evaluate(
        """async () => {
            const { Latest } = await import("/assets/latest.js");
            const [shown, resolve] = [[], []];
            const task = () => new Promise((done, failed) => resolve.push({ done, failed }));
            const latest = new Latest({ task, done: (x) => shown.push(x), failed: (x) => shown.push(x) });
            latest.now(); latest.now(); latest.now();
            resolve[2].done("third");
            await null;
            resolve[0].done("first");
            resolve[1].failed("second");
            await new Promise((then) => setTimeout(then));
            latest.now();
            latest.cancel();
            resolve[3].done("cancelled");
            await new Promise((then) => setTimeout(then));
            return shown;
        }"""
    )
    assert found == ["third"]


def test_no_text_no_call_and_nothing_shown(page: Tab) -> None:
    page.type("a")
    shows(page, "A")
    sent = answer_with(page, "translate", ANSWER)
    page.click("#clear")
    shows(page, "")
    assert page.is_disabled("#copy")
    assert page.is_hidden("#alternatives")
    assert page.evaluate("document.activeElement.id") == "text"
    assert sent == []


def test_a_text_beyond_the_limit_is_not_sent_and_not_cut(page: Tab) -> None:
    sent = answer_with(page, "translate", ANSWER | {"translatedText": "x"})
    page.type("😀" * (LIMIT + 17))  # counted in characters, not in UTF-16 units
    expect(page.locator("#notice")).to_contain_text("3,017 characters, this server takes 3,000 at once. Leave out 17")
    assert page.inner_text("#count") == "3,017 of 3,000 characters"
    assert sent == []
    page.type("😀" * LIMIT)
    shows(page, "x")
    assert page.is_hidden("#notice")


def test_half_an_emoji_is_translated(page: Tab) -> None:
    page.evaluate("document.getElementById('text').value = 'a \\ud83d'")
    page.dispatch_event("#text", "input")
    shows(page, "A \ufffd")


def test_markup_is_shown_as_it_is(page: Tab) -> None:
    text = "<img src=x onerror=alert(1)> &amp; <b>bold</b>"
    answer = ANSWER | {
        "translatedText": text,
        "alternatives": [text + "!"],
        "warnings": [{"code": text, "detail": text}],
    }
    answer_with(page, "translate", answer)
    page.type(text)
    shows(page, text)
    assert page.inner_text("#alternatives-list button") == text + "!"
    assert page.locator(".answer img").count() == 0


def test_right_to_left_text(page: Tab) -> None:
    answer_with(page, "translate", ANSWER | {"translatedText": "صباح الخير"})
    page.type("בוקר טוב")
    shows(page, "صباح الخير")
    assert page.evaluate("getComputedStyle(document.getElementById('output')).direction") == "rtl"


# ---- what the answer says


def test_alternatives(page: Tab) -> None:
    page.type("one two")
    shows(page, "ONE TWO")
    buttons = page.locator("#alternatives-list button")
    assert buttons.all_inner_texts() == ["ONE TWO'", "ONE TWO''", "ONE TWO'''"]
    assert page.inner_text("#confidence") == "Medium confidence: 77%"  # exp(-0.25)
    buttons.nth(2).click()
    shows(page, "ONE TWO'''")
    assert buttons.all_inner_texts() == ["ONE TWO'", "ONE TWO''", "ONE TWO"]
    assert page.is_hidden("#confidence")
    expect(page.locator("#status")).to_have_text("Translation: ONE TWO'''")
    assert page.evaluate("document.activeElement.textContent") == "ONE TWO"


def test_words_of_an_alternative_that_are_new_stand_out(page: Tab) -> None:
    answer = ANSWER | {"translatedText": "Ich gehe nach Hause.", "alternatives": ["Ich gehe heim."]}
    answer_with(page, "translate", answer)
    page.type("I go home.")
    shows(page, "Ich gehe nach Hause.")
    assert page.locator("#alternatives b").all_inner_texts() == ["heim"]


def test_warnings_in_words(page: Tab) -> None:
    warnings = [{"code": "ITEM_CHANGED", "detail": "42"}, {"code": "REPETITION", "detail": ""}]
    answer_with(page, "translate", ANSWER | {"translatedText": "x", "warnings": warnings})
    page.type("a")
    shows(page, "x")
    assert page.locator("#warnings li").all_inner_texts() == [
        "A number, link, tag or placeholder did not survive unchanged. (42)",
        "Words are repeated over and over.",
    ]


def test_swap(page: Tab) -> None:
    page.type("Good Morning")
    shows(page, "GOOD MORNING")
    page.keyboard.press("Alt+x")
    assert (page.input_value("#source"), page.input_value("#target")) == ("de", "en")
    assert page.input_value("#text") == "GOOD MORNING"
    shows(page, "good morning")
    page.select_option("#target", "de")  # the same on both sides is never left standing
    assert page.input_value("#source") == "en"


def test_swap_keeps_a_text_that_is_not_translated_yet(page: Tab) -> None:
    page.type("old")
    shows(page, "OLD")
    page.route("**/translate", lambda route: None)
    page.type("New")
    page.click("#swap")
    assert page.input_value("#text") == "New"
    page.unroute("**/translate")
    page.keyboard.press("Control+Enter")
    shows(page, "new")


def test_a_text_that_the_page_puts_in_has_its_height_and_no_old_marks(page: Tab) -> None:
    lines = "\n".join(["many", "lines"] * 12)

    def is_whole() -> bool:
        return page.evaluate(
            """() => {
                const [text, mirror] = ["text", "mirror"].map((id) => document.getElementById(id));
                return mirror.textContent === text.value && text.scrollHeight <= text.clientHeight;
            }"""
        )

    answer_with(page, "translate", ANSWER | {"translatedText": lines})
    page.type("a")
    page.output()
    page.unroute("**/translate")
    page.route("**/translate", lambda route: None)  # from here on nothing but the text itself gives the height
    page.click("#swap")
    assert page.input_value("#text") == lines
    assert is_whole()
    page.click("#clear")
    assert is_whole()
    page.evaluate("(text) => { location.hash = new URLSearchParams({ from: 'en', to: 'de', text }) }", lines)
    page.wait_for_function("document.getElementById('text').value")
    assert is_whole()
    page.add_init_script(  # as a browser restores what was typed; under automation it does not
        f"addEventListener('DOMContentLoaded', () => (document.getElementById('text').value = {lines!r}))"
    )
    with page.expect_request("**/translate"):
        page.reload()
    assert page.input_value("#text") == lines
    assert is_whole()


def test_formality_only_where_it_is_to_be_had(page: Tab) -> None:
    page.type("time")
    page.check("[value=formal]")
    shows(page, "SIE: TIME")
    page.click("#swap")
    assert page.is_hidden("#formality")
    shows(page, "sie: time")


# ---- words that belong together

SOURCE, TARGET = "😀 The black cat sleeps.", "😀 Die schwarze Katze schläft."
LINKS = [  # in code points: an emoji is one
    [2, 5, 2, 5, 0.9],
    [6, 11, 6, 14, 0.8],
    [12, 13, 15, 18, 0.3],  # pieces of one word
    [13, 15, 18, 20, 0.4],
    [12, 15, 6, 14, 0.1],  # a trace of attention is no counterpart
    [16, 22, 21, 28, 0.5],
    [16, 22, 28, 29, 0.9],  # a word and a full stop are no pair
]


@pytest.fixture
def aligned(page: Tab) -> Tab:
    answer = ANSWER | {"translatedText": TARGET, "alternatives": ["Die Katze."], "alignment": LINKS}
    answer_with(page, "translate", answer)
    page.type(SOURCE)
    shows(page, TARGET)
    return page


def marked(page: Tab, where: str) -> list[str]:
    return page.locator(f"#{where} .on").all_inner_texts()


def test_alignment_under_the_pointer(aligned: Tab) -> None:
    aligned.locator("#output span", has_text="Katze").hover()
    assert (marked(aligned, "output"), marked(aligned, "mirror")) == (["Katze"], ["cat"])
    box = aligned.locator("#mirror span", has_text="sleeps").bounding_box()  # under the text area
    aligned.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert (marked(aligned, "mirror"), marked(aligned, "output")) == (["sleeps"], ["schläft"])
    aligned.hover("h1")
    assert marked(aligned, "mirror") + marked(aligned, "output") == []


def test_alignment_from_the_keyboard(aligned: Tab) -> None:
    aligned.focus("#output")
    aligned.keyboard.press("ArrowRight")
    expect(aligned.locator("#status")).to_have_text("😀: no counterpart")
    for _ in range(3):
        aligned.keyboard.press("ArrowRight")
    assert (marked(aligned, "output"), marked(aligned, "mirror")) == (["Katze"], ["cat"])
    expect(aligned.locator("#status")).to_have_text("Katze: cat")
    aligned.focus("#text")
    aligned.evaluate("document.getElementById('text').setSelectionRange(8, 8)")  # in "black"
    expect(aligned.locator("#output .on")).to_have_text("schwarze")


def test_the_mirror_lies_exactly_under_the_text(aligned: Tab) -> None:
    style = """(id) => {
        const [element, wanted] = [document.getElementById(id), ["font", "padding", "letterSpacing", "whiteSpace"]];
        const [style, box] = [getComputedStyle(element), element.getBoundingClientRect()];
        return [...wanted.map((name) => style[name]), box.x, box.y, box.width, box.height];
    }"""
    for text in (SOURCE, "many words " * 60, "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"):
        aligned.type(text)
        assert aligned.evaluate(style, "mirror") == aligned.evaluate(style, "text")
        assert aligned.evaluate("document.getElementById('text').scrollHeight") <= aligned.evaluate(
            "document.getElementById('text').clientHeight"
        )


def test_links_belong_to_the_text_and_the_translation_that_they_were_made_for(aligned: Tab) -> None:
    aligned.click("#alternatives-list button")
    shows(aligned, "Die Katze.")
    assert aligned.locator("[data-word]").count() == 0
    aligned.click("#alternatives-list button")
    assert aligned.locator("[data-word]").count() > 0
    aligned.route("**/translate", lambda route: None)
    aligned.type("Another text.")
    aligned.locator("#output span", has_text="Katze").hover()
    assert marked(aligned, "output") == []


def test_a_text_of_too_many_words_has_no_marks(page: Tab) -> None:
    long = "word " * 5000
    answer_with(page, "translate", ANSWER | {"translatedText": long, "alignment": [[0, 1, 0, 4, 0.9]]})
    page.type("a")
    page.output()
    assert page.evaluate("document.getElementById('output-hint').hidden")
    page.focus("#output")
    page.keyboard.press("ArrowRight")
    assert page.locator("[data-word]").count() == 0


def test_a_server_without_an_extension_is_asked_without_it(page: Tab) -> None:
    refusal = {"status": 501, "body": {"error": "alignment: not implemented yet; leave it unset"}}
    sent = answer_with(page, "translate", refusal, ANSWER | {"translatedText": "x"})
    page.type("a")
    shows(page, "x")
    page.type("b")
    expect(page.locator("#output")).not_to_have_class(re.compile("stale"))
    assert [("alignment" in one) for one in sent] == [True, False, False]


# ---- attention


def maps() -> dict[str, Any]:
    """Two layers of two heads; in head 2 of layer 2 each piece looks at one other alone."""
    source, target = ["<2de>", "▁a", "b", "</s>"], ["<s>", "▁x", "y"]
    size = {"ENCODER": (4, 4), "DECODER": (3, 3), "CROSS": (3, 4)}
    found = []
    for kind, (rows, columns) in size.items():
        for layer, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
            sharp = (layer, head) == (1, 1)
            weights = [float(j == i + 1) if sharp else 1 / columns for i in range(rows) for j in range(columns)]
            found.append({"kind": kind, "layer": layer, "head": head, "weights": weights})
    return {"translatedText": "xy", "source_tokens": source, "target_tokens": target, "maps": found}


def test_attention_view(page: Tab) -> None:
    sent = answer_with(page, "explain", maps())
    page.type("First sentence. Second one.")
    page.output()
    assert sent == []  # asked for when it is wanted
    page.click("#attention summary")
    expect(page.locator(".heads button")).to_have_count(5)
    assert sent == [{"q": "First sentence.", "source": "en", "target": "de"}]
    page.click("[aria-label='Layer 2, head 2']")
    assert page.get_attribute("[aria-label='Layer 2, head 2']", "aria-pressed") == "true"
    page.click("#attention .table summary")
    rows = page.locator("#attention tbody tr").all_inner_texts()
    assert [re.split(r"\s·\s", row)[0].split() for row in rows] == [
        ["x", "a", "100%"],
        ["…y", "…b", "100%"],
        ["</s>", "</s>", "100%"],
    ]
    canvas = page.locator(".scroller canvas")
    assert "Layer 2, head 2: 3 rows, 4 columns" in canvas.get_attribute("aria-label")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#attention-body .readout")).to_have_text("x looks at a: 100%")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 10, "y": box["height"] - 10})
    expect(page.locator("#attention-body .readout")).to_have_text("</s> looks at </s>: 100%")
    page.check("[name=kind] >> nth=1")
    assert "Source to source, Mean of all heads: 4 rows, 4 columns" in page.get_attribute(
        ".scroller canvas", "aria-label"
    )
    with page.expect_response("**/explain"):
        page.select_option("#attention select", "1")
    expect(page.locator("#attention select option:checked")).to_have_text("Second one.")
    assert sent[-1]["q"] == "Second one."
    assert axe(page) == []


def test_attention_of_another_text_is_not_shown(page: Tab) -> None:
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.post_data_json["q"]))

    def handle(route: Any) -> None:
        if route.request.post_data_json["q"] == "a":
            route.fulfill(json=maps())  # "b" is never answered

    page.route("**/explain", handle)
    page.type("a")
    shows(page, "A")
    page.click("#attention summary")
    expect(page.locator(".heads button")).to_have_count(5)
    for again in ("a", ""):
        with page.expect_request("**/explain"):
            page.type("b")
        with page.expect_event("requestfailed"):
            page.type(again)
            shows(page, again.upper())
    assert failed == ["b", "b"]
    page.click("#theme")  # paints anew what is on show: nothing
    page.type("a")
    shows(page, "A")
    expect(page.locator(".heads button")).to_have_count(5)


def test_attention_where_the_language_of_the_text_is_not_known(page: Tab) -> None:
    answer_with(page, "translate", ANSWER | {"translatedText": "x"})
    sent = answer_with(page, "explain", maps())
    page.select_option("#source", "auto")
    page.type("First sentence. Second one.")
    shows(page, "x")
    page.click("#attention summary")
    expect(page.locator(".heads button")).to_have_count(5)
    assert sent == [{"q": "First sentence.", "source": "", "target": "de"}]


def test_attention_of_a_decoder_that_stands_alone(page: Tab) -> None:
    both = maps()
    size = len(both["source_tokens"] + both["target_tokens"])
    weights = [float(j == max(0, i - 1)) for i in range(size) for j in range(size)]
    alone = both | {"maps": [{"kind": "DECODER", "layer": 0, "head": head, "weights": weights} for head in (0, 1)]}
    answer_with(page, "explain", both, alone, both)
    page.type("a")
    shows(page, "A")
    page.click("#attention summary")
    page.click("[aria-label='Layer 2, head 2']")
    page.type("b")
    canvas = page.locator(".scroller canvas")
    expect(canvas).to_have_attribute(
        "aria-label", re.compile("^Text and translation to themselves, Mean of all heads: 7 rows, 7 columns")
    )
    page.click("#attention .table summary")
    row = page.locator("#attention tbody tr", has=page.locator("th", has_text="x")).inner_text()
    assert re.split(r"\s·\s", row)[0].split() == ["x", "<s>", "100%"]
    assert axe(page) == []
    page.type("c")  # what was chosen is there again
    expect(canvas).to_have_attribute("aria-label", re.compile("^Translation to source, Layer 2, head 2"))


def test_a_server_that_does_not_explain(page: Tab) -> None:
    sent = answer_with(page, "explain", {"status": 501, "body": {"error": "Explain is not implemented yet"}})
    page.type("a")
    page.output()
    page.click("#attention summary")
    expect(page.locator("#attention-body")).to_have_text("This server does not show its attention weights.")
    assert sent == [{"q": "a", "source": "en", "target": "de", "translatedText": "A"}]


def test_colours_of_the_matrix_follow_the_weights(page: Tab) -> None:
    answer_with(page, "explain", maps())
    page.type("a")
    page.output()
    page.click("#attention summary")
    page.click("[aria-label='Layer 2, head 2']")
    painted = page.evaluate(
        """() => {
            const canvas = document.querySelector(".scroller canvas");
            const { side, top, size } = canvas.geometry;
            const scale = window.devicePixelRatio;
            const alpha = (row, column) => canvas.getContext("2d").getImageData(
                (side + (column + 0.5) * size) * scale, (top + (row + 0.5) * size) * scale, 1, 1).data[3];
            return [0, 1, 2].map((row) => [0, 1, 2, 3].map((column) => alpha(row, column)));
        }"""
    )
    assert painted == [[0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]

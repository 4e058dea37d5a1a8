"""The web page in every weather, and what lies around the translation: glossary, files, links, colours, keys."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from browser import ANSWER, Tab, answer_with, axe, needs_chromium, shows, tab
from playwright.sync_api import expect

pytestmark = [needs_chromium, pytest.mark.slow]

# ---- trouble


def test_too_many_requests_are_tried_again_when_the_server_says(page: Tab) -> None:
    refusal = {"status": 429, "headers": {"Retry-After": "2"}, "body": {"error": "more than 1 per 1 second"}}
    sent = answer_with(page, "translate", refusal, ANSWER | {"translatedText": "x"})
    page.type("a")
    expect(page.locator("#notice")).to_contain_text(re.compile(r"The server is busy\. Next try in [12] s\."))
    begin = time.monotonic()
    shows(page, "x")
    assert time.monotonic() - begin > 0.5
    assert page.is_hidden("#notice")
    assert len(sent) == 2


def test_an_error_says_what_is_wrong_and_offers_to_try_again(page: Tab) -> None:
    refusal = {"status": 503, "body": {"error": "the model is still loading"}}
    answer_with(
        page, "translate", refusal, {"status": 400, "body": {"error": "q: bad"}}, ANSWER | {"translatedText": "x"}
    )
    page.type("a")
    expect(page.locator("#notice")).to_contain_text("the model is still loading")
    page.click("#retry")
    expect(page.locator("#notice")).to_contain_text("q: bad")
    assert page.is_hidden("#retry")  # the same again would not help
    page.type("b")
    shows(page, "x")


def test_offline_and_back(page: Tab) -> None:
    page.context.set_offline(True)
    page.type("a")
    expect(page.locator("#notice")).to_contain_text("You are offline.")
    page.context.set_offline(False)
    shows(page, "A")


def test_the_server_is_not_there_at_first(browser: Any, fake_url: str) -> None:
    with tab(browser, "about:blank", wait=False) as page:
        page.route("**/languages", lambda route: route.abort())
        page.goto(fake_url)
        expect(page.locator("#notice")).to_contain_text("The server cannot be reached.")
        page.type("a")  # in the meantime
        page.unroute("**/languages")
        page.click("#retry")
        shows(page, "A")
        page.urls.clear()


def test_api_key(page: Tab) -> None:
    sent = answer_with(
        page, "translate", {"status": 403, "body": {"error": "no valid api_key"}}, ANSWER | {"translatedText": "x"}
    )
    page.type("a")
    expect(page.locator("#notice")).to_contain_text("no valid api_key")
    page.fill("#key-value", "sec\u200bret")  # pasted with a space of no width: no header carries it
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("plain letters")
    assert page.evaluate("sessionStorage.length") == 0
    page.fill("#key-value", " secret ")
    with page.expect_request("**/translate") as request:
        page.keyboard.press("Enter")
    shows(page, "x")
    assert request.value.headers["authorization"] == "Bearer secret"
    assert len(sent) == 2


# ---- glossary, files, links


def test_glossary(page: Tab) -> None:
    sent = answer_with(page, "translate", ANSWER | {"translatedText": "x"})
    page.type("cat")
    shows(page, "x")
    page.click("#glossary summary")
    page.click("#glossary [type=submit]")
    page.keyboard.type("cat")
    page.keyboard.press("Tab")
    with page.expect_response(lambda response: '"target":"Kater"' in (response.request.post_data or "")):
        page.keyboard.type("Kater")
    assert sent[-1]["glossary"] == [{"source": "cat", "target": "Kater"}]
    assert page.inner_text("#glossary-count") == "1 term"
    assert page.get_attribute("#glossary li button", "title") == "Remove the term cat"
    page.reload()
    expect(page.locator("#glossary-count")).to_have_text("1 term")
    page.select_option("#target", "en")
    expect(page.locator("#glossary-count")).to_have_text("no terms")
    page.select_option("#target", "de")
    page.click("#glossary summary")
    page.click("[aria-label='Remove the term cat']")
    expect(page.locator("#glossary-count")).to_have_text("no terms")


def test_two_tabs_share_their_terms(page: Tab, fake_url: str) -> None:
    other = page.context.new_page()
    other.goto(fake_url)
    other.wait_for_selector("#target option", state="attached")
    for one in (page, other):
        one.click("#glossary summary")
    page.click("#glossary [type=submit]")
    page.fill("#glossary li input", "not complete")
    for one, term in ((other, "cat"), (page, "dog")):
        one.click("#glossary [type=submit]")
        one.fill("#glossary li:last-child input >> nth=0", term)
        one.fill("#glossary li:last-child input >> nth=1", "x")
        for seen in (other, page):
            expect(seen.locator(f"[aria-label='Remove the term {term}']")).to_have_count(1)
    kept = "JSON.parse(localStorage.getItem('nmt.glossary.en-de')).map(({ source }) => source)"
    assert sorted(page.evaluate(kept)) == ["cat", "dog"]
    assert page.locator("#glossary li").count() == 3
    assert other.locator("#glossary li").count() == 2


def test_files_dropped_on_the_page(page: Tab) -> None:
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["good morning\\n"], "a.txt"));
            dataTransfer.items.add(new File(["x"], "b.exe"));
            const send = (type) => document.body.dispatchEvent(
                new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
            send("dragover");
            window.shown = !document.getElementById("drop").hidden;
            send("drop");
        }"""
    )
    assert page.evaluate("window.shown")
    assert page.is_hidden("#drop")
    expect(page.locator("#files-list li", has_text="b.exe")).to_contain_text("This server reads")
    with page.expect_download() as download:
        page.click("#files-list a")
    assert Path(download.value.path()).read_text() == "GOOD MORNING\n"


def test_a_table_asks_for_its_columns(page: Tab) -> None:
    table = {"name": "t.csv", "mimeType": "text/csv", "buffer": b"id,title\n7,hello\n"}
    page.set_input_files("#file", table)
    page.fill("#files-list input", "title")
    page.keyboard.press("Enter")
    with page.expect_download() as download:
        page.click("#files-list a")
    assert Path(download.value.path()).read_text() == "id,title\n7,HELLO\n"


def test_a_file_can_be_cancelled(page: Tab) -> None:
    page.route("**/translate_file", lambda route: None)
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x"})
    page.click("[aria-label='Cancel a.txt']")
    expect(page.locator("#files-list li")).to_contain_text("Cancelled")


def test_a_text_too_long_for_a_link(page: Tab) -> None:
    answer_with(page, "translate", ANSWER | {"translatedText": "x"})
    page.route("**/frontend/settings", lambda route: route.fulfill(json={"charLimit": -1}))
    page.reload()
    page.type("y" * 8001)
    page.output()
    page.click("#share")
    expect(page.locator("#notice")).to_contain_text("8,001 characters, the limit is 8,000")


# ---- the page itself

BLOCKED = """for (const name of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, name, { get() { throw new DOMException("", "SecurityError"); } });
}"""
FULL = "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }"


@pytest.mark.parametrize("script", [BLOCKED, FULL], ids=["blocked", "full"])
def test_without_the_storage_of_the_browser(browser: Any, fake_url: str, script: str) -> None:
    with tab(browser, "about:blank", wait=False) as page:
        page.add_init_script(script)
        page.goto(fake_url)
        page.click("#theme")
        page.click("#language")
        expect(page.locator("#glossary summary b")).to_have_text("Glossar")
        page.select_option("#source", "en")
        page.click("#glossary summary")
        page.click("#glossary [type=submit]")
        page.fill("#glossary li input >> nth=0", "cat")
        page.fill("#glossary li input >> nth=1", "Kater")
        sent = answer_with(page, "translate", {"status": 403, "body": {}}, ANSWER | {"translatedText": "x"})
        page.type("cat")
        page.fill("#key-value", "secret")
        with page.expect_request("**/translate") as request:
            page.keyboard.press("Enter")
        shows(page, "x")
        assert request.value.headers["authorization"] == "Bearer secret"
        page.select_option("#target", "en")  # other terms, and back
        page.select_option("#target", "de")
        expect(page.locator("#glossary-count")).to_have_text("1 Begriff")
        assert sent[1]["glossary"] == [{"source": "cat", "target": "Kater"}]
        page.urls.clear()


def test_dark_and_light(browser: Any, fake_url: str) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    with tab(browser, fake_url, color_scheme="dark") as page:
        dark = page.evaluate(colour)
        page.click("#theme")
        light = page.evaluate(colour)
        assert light != dark
        page.reload()
        assert page.evaluate(colour) == light
        page.click("#theme")
        assert page.evaluate(colour) == dark
        assert page.evaluate("localStorage.getItem('nmt.theme')") is None  # again as the system has it


def test_german_and_english(browser: Any, fake_url: str) -> None:
    with tab(browser, fake_url, locale="de-AT") as page:
        assert page.title() == "Übersetzen · nmt"
        assert page.get_attribute("html", "lang") == "de"
        page.type("Guten Tag")
        shows(page, "guten tag")
        page.click("#language")
        assert page.inner_text("#glossary summary b") == "Glossary"
        assert "confidence" in page.inner_text("#confidence")
        missing = page.evaluate(
            """async () => {
                const german = (await import("/assets/strings.de.js")).default;
                const { has } = await import("/assets/strings.js"); // of the page, which is English now
                const used = [...document.querySelectorAll("*")].flatMap(({ dataset }) =>
                    [dataset.t, dataset.tName, dataset.tLabel, dataset.tPlaceholder].filter(Boolean));
                return [...used, ...Object.keys(german)].filter((key) => !(key in german) || !has(key));
            }"""
        )
        assert missing == []


def test_shortcuts_are_documented_on_the_page(page: Tab) -> None:
    page.focus("#output")
    page.keyboard.press("?")
    assert page.is_visible("#shortcuts")
    assert axe(page) == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "output"
    page.focus("#text")
    page.keyboard.type("?")
    assert page.is_hidden("#shortcuts")
    assert page.input_value("#text") == "?"


def test_keys_that_write_characters_are_no_shortcuts(page: Tab) -> None:
    page.type("a")
    shows(page, "A")
    page.focus("#text")
    page.keyboard.press("Alt+Numpad2")  # on Windows a part of a character's number
    assert page.inner_text("#output") == "A"
    page.keyboard.press("Alt+Digit2")
    assert page.inner_text("#output") == "A''"

    page.add_init_script("Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' })")
    page.reload()
    page.type("b")
    shows(page, "B")
    page.focus("#text")
    page.keyboard.press("Alt+Digit2")
    assert page.inner_text("#output") == "B"
    page.focus("#output")
    page.keyboard.press("Alt+Digit2")
    assert page.inner_text("#output") == "B''"


def test_everything_is_reached_with_the_tab_key_in_the_order_of_the_page(page: Tab) -> None:
    page.type("a")
    shows(page, "A")
    page.focus(".skip")
    order = []
    for _ in range(11):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert order == "language theme keys source swap target default text file-button clear output".split()

"""The web page before the real server and the shipped model: a reader types, reads, and uses all that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser import DESKTOP, PHONE, axe, needs_chromium, tab, watch
from playwright.sync_api import expect
from serving import ROOT

pytestmark = [
    needs_chromium,
    pytest.mark.slow,
    pytest.mark.skipif(
        not list((ROOT / "model" / "pretrained").glob("*/config.json")), reason="no checkpoint in model/pretrained/ yet"
    ),
]
QUESTION, ANSWER = "Where is the station?", "Wo ist der Bahnhof?"
RETURNED = "Where's the station?"
FIRST_PAINT_BYTES = 40_000


def test_a_sentence_is_typed_and_its_translation_read(browser: Any, real_url: str) -> None:
    with tab(browser, real_url) as page:
        page.select_option("#target", "de")
        page.focus("#text")
        page.keyboard.type(QUESTION, delay=15)
        expect(page.locator("#output")).to_have_text(ANSWER)
        assert page.inner_text("#source option:checked") == "English – detected"
        assert page.input_value("#target") == "de"
        assert page.inner_text("#count").startswith(f"{len(QUESTION)} of ")
        assert re.fullmatch(r"(High|Medium|Low) confidence: \d+%", page.inner_text("#confidence"))
        alternatives = page.locator("#alternatives-list button").all_inner_texts()
        assert len(alternatives) == 3
        assert ANSWER not in alternatives

        page.click("#alternatives-list li:nth-child(2) button")
        assert page.inner_text("#output") == alternatives[1]
        assert page.inner_text("#alternatives-list li:nth-child(2) button") == ANSWER
        page.keyboard.press("Alt+2")
        assert page.inner_text("#output") == ANSWER

        page.click("#swap")
        assert page.input_value("#text") == ANSWER
        expect(page.locator("#output")).to_have_text(RETURNED)
        assert (page.input_value("#source"), page.input_value("#target")) == ("de", "en")


def test_german_typed_with_german_as_the_target_is_translated_into_english(browser: Any, real_url: str) -> None:
    with tab(browser, real_url, locale="de-DE") as page:
        assert page.input_value("#target") == "de"
        page.type(ANSWER)
        expect(page.locator("#output")).to_have_text(RETURNED)
        assert page.inner_text("#source option:checked") == "Deutsch – erkannt"
        assert page.input_value("#target") == "en"


def test_form_of_address(browser: Any, real_url: str) -> None:
    with tab(browser, real_url) as page:
        page.select_option("#source", "de")
        assert page.is_hidden("#formality")
        page.select_option("#source", "en")
        page.select_option("#target", "de")
        page.type("Do you have time?")
        page.output()
        page.check("[value=formal]")
        expect(page.locator("#output")).to_have_text(re.compile(r"\bSie\b"))
        page.check("[value=informal]")
        expect(page.locator("#output")).to_have_text(re.compile(r"\bdu\b"))


def test_a_shared_link_opens_the_same_translation_and_no_server_sees_its_text(browser: Any, real_url: str) -> None:
    text = "100 % of it: Where is the station? & more #1\nGood morning."
    with tab(browser, real_url) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.select_option("#target", "de")
        page.check("[value=informal]")
        page.type(text)
        before = page.output()
        page.click("#share")
        page.wait_for_selector("#share.done")
        link = page.evaluate("navigator.clipboard.readText()")
        page.click("#copy")
        page.wait_for_selector("#copy.done")
        assert page.evaluate("navigator.clipboard.readText()") == before

    assert link.startswith(f"{real_url}/#")
    with tab(browser, link.partition("#")[0], wait=False) as page:
        watch(page)
        page.goto("about:blank")
        page.goto(link)
        assert page.output() == before
        assert page.input_value("#text") == text
        assert page.is_checked("[value=informal]")
        assert page.url == f"{real_url}/"
        assert not [one for one in page.urls if "station" in one.partition("#")[0]]
        page.urls.clear()


def test_a_file_is_translated_and_downloaded(browser: Any, real_url: str, tmp_path: Path) -> None:
    (tmp_path / "two.lines.txt").write_text(f"{QUESTION}\nGood morning.\n")
    with tab(browser, real_url) as page:
        page.select_option("#target", "de")
        page.set_input_files("#file", tmp_path / "two.lines.txt")
        link = page.locator("#files-list a")
        assert link.inner_text() == "Download two.lines.de.txt"
        with page.expect_download() as download:
            link.click()
        assert download.value.suggested_filename == "two.lines.de.txt"
        assert Path(download.value.path()).read_text() == f"{ANSWER}\nGuten Morgen.\n"


def test_a_term_of_the_glossary_is_used(browser: Any, real_url: str) -> None:
    with tab(browser, real_url) as page:
        page.select_option("#target", "de")
        page.type(QUESTION)
        expect(page.locator("#output")).to_have_text(ANSWER)
        page.click("#glossary summary")
        page.click("#glossary [type=submit]")
        page.keyboard.type("station")
        page.keyboard.press("Tab")
        page.keyboard.type("Haltestelle")
        expect(page.locator("#output")).to_have_text(re.compile(r"Haltestelle\?"))


def test_words_that_belong_together(browser: Any, real_url: str) -> None:
    with tab(browser, real_url) as page:
        page.select_option("#target", "de")
        page.type(QUESTION)
        page.output()
        page.locator("#output span", has_text="Bahnhof").hover()
        assert page.locator("#mirror .on").all_inner_texts() == ["station"]


def test_attention(browser: Any, real_url: str) -> None:
    with tab(browser, real_url) as page:
        page.select_option("#target", "de")
        page.type(QUESTION)
        page.output()
        page.click("#attention summary")
        page.click("#attention .table summary")
        row = page.locator("#attention tr", has_text="Bahnhof").inner_text()
        assert "station" in row


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(browser: Any, real_url: str, scheme: str, size: dict[str, int]) -> None:
    with tab(browser, real_url, viewport=size, color_scheme=scheme) as page:
        page.select_option("#target", "de")
        page.type(QUESTION)
        page.output()
        page.click("#attention summary")
        page.click("#glossary summary")
        page.click("#glossary [type=submit]")
        page.wait_for_selector("#attention-body > *")
        assert axe(page) == []
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == size["width"], "the page scrolls sideways"


def test_the_first_paint_is_light(browser: Any, real_url: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    sizes = []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    page.goto(real_url, wait_until="networkidle")
    context.close()
    assert len(sizes) > 5
    assert sum(sizes) < FIRST_PAINT_BYTES


def test_policy(browser: Any, real_url: str) -> None:
    """The server's own header is strict, and scripts that get into the page all the same do not run."""
    with tab(browser, real_url) as page:
        policy = page.request.get(real_url).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.wasHere = true";
                document.body.append(script);
            }"""
        )
        assert page.evaluate("window.wasHere") is None
        assert len(page.errors) == 1
        assert "Content Security Policy" in page.errors.pop()

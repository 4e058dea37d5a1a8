"""The web page in a headless Chromium, for tests: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from serving import Process

CHROMIUM = shutil.which("chromium")
ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no /usr/bin/chromium: apt-get install chromium")
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}
TIMEOUT = 120_000  # milliseconds: machines are busy at times, and the first detection of a language takes a while
LIMIT = 3000  # characters of a request, of the server with the stand-in
ANSWER = {"translatedText": "", "score": -0.2, "confidence": 0.9, "warnings": []}
expect.set_options(timeout=TIMEOUT)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Playwright's event loop runs as long as this is open: no asyncio.run() in the meantime."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def web_server(command: Sequence[str], *args: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """`nmt serve` with its web page; gives the address of the page."""
    server = Process(command, "--web", "127.0.0.1:0", *args, environment=environment)
    try:
        server.wait_for(r"serving \S+ \(de, en\) on ", 120)
        yield server.wait_for(r"web page and HTTP API on (http://[\d.:]+)", 120)[1]
    finally:
        server.popen.terminate()
        server.popen.wait(timeout=60)


@dataclass
class Tab:
    """A page and what went by: the console's errors, the addresses that were asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def type(self, text: str) -> None:
        self.page.fill("#text", text)

    def output(self) -> str:
        """Once it is the answer to what was typed last."""
        self.page.wait_for_selector("#output:not(.stale)[aria-busy=false]")
        return self.page.inner_text("#output")


@contextlib.contextmanager
def tab(browser: Any, url: str, wait: bool = True, **options: Any) -> Iterator[Tab]:
    """A fresh profile with the page open. Afterwards: no script failed, nothing broke the content security policy,
    nothing was asked of another host. ``wait``: until the languages are there."""
    context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-US", **options})
    context.set_default_timeout(TIMEOUT)
    opened = Tab(context.new_page())
    watch(opened)
    try:
        opened.page.goto(url)
        if wait:
            opened.page.wait_for_selector("#target option", state="attached")
        yield opened
        assert opened.errors == []
        assert [one for one in opened.urls if not one.startswith((url, "blob:", "data:"))] == []
    finally:
        context.close()


def watch(opened: Tab) -> None:
    def console(message: Any) -> None:
        # "Failed to load resource" is how Chromium notes each answer of 400 and above
        if message.type == "error" and "Failed to load resource" not in message.text:
            opened.errors.append(message.text)

    opened.page.on("console", console)
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on("request", lambda request: opened.urls.append(request.url))


def axe(opened: Tab) -> list[str]:
    """What axe-core finds that is serious or critical."""
    found = Axe().run(opened.page).response["violations"]
    return [
        f"{one['id']}: {node['html']} {node['any'] or node['all'] or node['none']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def answer_with(page: Tab, path: str, *answers: dict[str, Any], **rest: Any) -> list[dict[str, Any]]:
    """Answer the calls of ``path`` with these, the last one for all that follow; returns what was sent."""
    sent: list[dict[str, Any]] = []

    def handle(route: Any) -> None:
        sent.append(route.request.post_data_json)
        body = answers[min(len(sent), len(answers)) - 1]
        body, status, headers = body.get("body", body), body.get("status", 200), body.get("headers", {})
        route.fulfill(status=status, headers=headers, body=json.dumps(body), content_type="application/json")

    page.route(f"**/{path}", handle)
    return sent


def shows(page: Tab, text: str) -> None:
    expect(page.locator("#output")).to_have_text(text)
    expect(page.locator("#output")).not_to_have_class(re.compile("stale"))

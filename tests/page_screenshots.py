"""Takes the pictures of the web page in docs/page, before the real server with the shipped model.

python tests/page_screenshots.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from browser import DESKTOP, PHONE, Tab, chromium, tab, web_server
from PIL import Image
from serving import REAL_NMT, ROOT

TEXT = "The committee will meet next Tuesday to discuss the new bridge across the river."
WORD = "Brücke"  # of the translation: under the pointer
COLOURS = 255


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with web_server(REAL_NMT) as url, chromium() as browser:
        for name, options in {
            "light": {"viewport": DESKTOP, "color_scheme": "light"},
            "dark": {"viewport": DESKTOP, "color_scheme": "dark", "locale": "de-DE"},
            "phone": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2},
        }.items():
            with tab(browser, url, **options) as page:
                translate(page)
                point_at_word(page)
                save(page, folder / f"{name}.png", full_page=name == "phone")
        with tab(browser, url, viewport=DESKTOP, color_scheme="light") as page:
            translate(page)
            attention(page)
            save(page.locator("#attention"), folder / "attention.png")


def translate(page: Tab) -> None:
    page.select_option("#target", "de")
    page.type(TEXT)
    page.output()


def point_at_word(page: Tab) -> None:
    word = page.locator("#output span", has_text=WORD)
    if word.count():
        word.first.hover()


def attention(page: Tab) -> None:
    page.click("#attention summary")
    page.wait_for_selector(".scroller canvas")
    page.mouse.move(0, 0)


def save(shown: Any, path: Path, **options: Any) -> None:
    """Of a page or a part of it."""
    shown.screenshot(path=path, **options)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "page")

"""A browser and web pages, for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import LIMIT, Tab, chromium, tab, web_server
from serving import FAKE_NMT, REAL_NMT


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def real_url() -> Iterator[str]:
    """The page of `nmt serve` with the shipped model."""
    with web_server(REAL_NMT) as url:
        yield url


@pytest.fixture(scope="module")
def fake_url() -> Iterator[str]:
    """The page of `nmt serve` with the stand-in."""
    with web_server(FAKE_NMT, "--set", f"max_characters={LIMIT}") as url:
        yield url


@pytest.fixture
def page(browser: Any, fake_url: str) -> Iterator[Tab]:
    """A fresh page of the stand-in."""
    with tab(browser, fake_url) as page:
        page.select_option("#source", "en")
        yield page

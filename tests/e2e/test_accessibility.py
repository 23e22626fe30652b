"""Every page and state of the studio before axe-core, in both colour schemes, and a drawing without a mouse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.e2e.test_studio import SMALL, Studio, browser, open_studio

__all__ = ["browser", "open_studio"]


def check(studio: Studio) -> None:
    """Let axe-core look at what the page shows, by all of its rules."""
    studio.until("document.getAnimations().every((one) => one.playState !== 'running')")
    results = Axe().run(studio.page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_way_to_a_video(open_studio: Callable[..., Studio], scheme: str) -> None:
    studio = open_studio(color_scheme=scheme)
    page = studio.page
    expect(page.locator("[data-example] img").last).to_be_visible()
    check(studio)
    studio.draw_rocket()
    studio.set_video(SMALL)
    check(studio)
    studio.button("Help").click()
    check(studio)
    page.keyboard.press("Escape")
    studio.generate()
    expect(page.locator("video")).to_be_visible()
    studio.until("document.querySelector('video').readyState >= 2")
    check(studio)
    studio.button("Videos").click()
    expect(page.locator(".card").first).to_be_visible()
    check(studio)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/problems", "/study"])
def test_axe_finds_nothing_on_the_other_pages(open_studio: Callable[..., Studio], scheme: str, path: str) -> None:
    studio = open_studio(color_scheme=scheme)
    studio.page.goto(studio.base_url + path)
    expect(studio.page.locator("h1")).to_be_visible()
    check(studio)


def test_a_path_is_drawn_without_a_mouse(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio()
    studio.draw_rocket()
    studio.page.locator("#canvas").focus()
    for key in ("ArrowRight", "ArrowUp", "n"):
        studio.page.keyboard.press(key)
    assert len(studio.entities()[0]["path"]) > 2

"""Make the pictures of the studio in docs/images: `python docs/screenshots.py`, or with the address of a service.

Needs Chromium. The one result is what the `tiny` model made of the cat, the first time it was asked.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from local.ports import bypass_proxies
from local.stack import Stack

IMAGES = Path(__file__).with_name("images")
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}
MAX_BYTES = 150_000


def save(page: Page, name: str) -> None:
    """What the page shows, as a WebP that is small enough to be kept."""
    page.wait_for_timeout(400)
    picture = Image.open(io.BytesIO(page.screenshot()))
    for quality in (90, 80, 70):
        picture.save(IMAGES / f"{name}.webp", quality=quality, method=6)
        if (IMAGES / f"{name}.webp").stat().st_size <= MAX_BYTES:
            return
    raise ValueError(f"{name} is larger than {MAX_BYTES} bytes")


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of the studio with its examples."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.goto(url)
    page.locator("[data-example] img").last.wait_for()
    page.wait_for_load_state("networkidle")
    yield page
    context.close()


def draw(page: Page, example: str, things: list[tuple[list[int], list[list[int]]]]) -> None:
    """Drag each thing of an example along points of the picture."""
    page.locator(f"[data-example={example}]").click()
    page.locator("#generate").wait_for()
    page.wait_for_timeout(500)
    box = page.locator("#canvas").bounding_box()
    assert box
    for number, (start, path) in enumerate(things, 1):
        for step, point in enumerate([start, *path]):
            x, y = page.evaluate(f"studio.canvas.toScreen({point})")
            page.mouse.move(box["x"] + x, box["y"] + y, steps=6)
            if step == 0:
                page.mouse.down()
        page.mouse.up()
        page.locator(".entity").nth(number - 1).wait_for()
    page.mouse.move(0, 0)
    page.locator("#overlay:enabled").wait_for(timeout=60_000)


ROCKET = ([225, 200], [[225, 150], [230, 105], [248, 62], [285, 28]])
CAT = ([205, 130], [[235, 133], [275, 146]])
COFFEE = [([247, 125], [[215, 140], [180, 160]]), ([312, 240], [[350, 250], [400, 235]])]


def shoot(browser: Browser, url: str) -> None:
    """Every picture."""
    with opened(browser, url, **DESKTOP) as page:
        save(page, "studio-start")
        draw(page, "quickstart", [ROCKET])
        save(page, "studio-draw")
        page.locator("#open-help").click()
        save(page, "studio-help")
    with opened(browser, url, **DESKTOP, color_scheme="dark") as page:
        draw(page, "coffee", COFFEE)
        page.locator("#scrub").fill("9")
        save(page, "studio-scrub-dark")
        page.locator("#overlay").click()
        save(page, "studio-preview-dark")
    with opened(browser, url, **DESKTOP) as page:
        draw(page, "cat", [CAT])
        page.locator("#generate").click()
        page.locator("#result video").wait_for(timeout=120_000)
        save(page, "studio-result")
    with opened(browser, url, **PHONE) as page:
        draw(page, "cat", [CAT])
        save(page, "studio-phone")


def main(url: str) -> None:
    """Drive the studio at an address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        shoot(browser, url)
        browser.close()


if __name__ == "__main__":
    bypass_proxies()
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
            main(stack.base_url)

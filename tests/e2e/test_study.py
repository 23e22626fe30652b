"""The page on which people compare videos, in a real browser, on the real service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from local.stack import ROOT, Stack
from tests.e2e.test_studio import WAIT_S, browser

__all__ = ["browser"]

SPEC: dict[str, Any] = json.loads((ROOT / "examples" / "quickstart.json").read_text())
SMALL = {"width": 64, "height": 64, "num_frames": 3, "num_inference_steps": 2}
SECRETS = ("of entities", "of points")

expect.set_options(timeout=WAIT_S * 1000)


@pytest.fixture(scope="module")
def jobs(live_stack: Stack) -> list[str]:
    """Two finished videos, which differ in their control."""
    points = [{**entity, "control": "point"} for entity in SPEC["entities"]]
    requests = [SPEC | SMALL | {"seed": 1}, SPEC | SMALL | {"seed": 1, "entities": points}]
    batch = httpx.post(f"{live_stack.base_url}/v1/batches", json={"requests": requests}, timeout=WAIT_S).json()
    for job in batch["jobs"]:
        with httpx.stream("GET", job["urls"]["events"], timeout=WAIT_S) as events:
            *_, last = (line for line in events.iter_lines() if line.startswith("data:"))
        assert json.loads(last[5:])["status"] == "succeeded"
    return [job["id"] for job in batch["jobs"]]


@pytest.fixture
def study(live_stack: Stack, jobs: list[str]) -> dict[str, Any]:
    """Two pairs, the second one the other way round."""
    pairs = [{"a": jobs[0], "b": jobs[1]}, {"a": jobs[1], "b": jobs[0]}]
    body = {"pairs": pairs, "names": SECRETS, "title": "Rockets"}
    answer = httpx.post(f"{live_stack.base_url}/v1/studies", json=body, timeout=WAIT_S)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def loaded(page: Page) -> None:
    expect(page.locator("video")).to_have_count(2)
    for video in page.locator("video").all():
        expect(video).to_have_js_property("readyState", 4)


def results(study: dict[str, Any]) -> dict[str, Any]:
    return dict(httpx.get(study["urls"]["self"], timeout=WAIT_S).json())


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Open an address as somebody new; whatever the browser complains of fails the test, but for what a
    test asks in vain."""
    pages: list[Page] = []
    complaints: list[str] = []

    def visit(address: str) -> Page:
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(WAIT_S * 1000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.goto(address)
        pages.append(page)
        return page

    yield visit
    for page in pages:
        page.context.close()
    assert [told for told in complaints if not ("404" in told or "ERR_FAILED" in told)] == []


def test_a_study_is_voted_on_with_the_keyboard_alone(study: dict[str, Any], visit: Callable[[str], Page]) -> None:
    page = visit(study["urls"]["link"])
    expect(page.get_by_role("heading", name="Rockets")).to_be_visible()
    expect(page.locator("#count")).to_have_text("Pair 1 of 2")
    loaded(page)
    for secret in (*SECRETS, study["id"], study["pairs"][0]["a"], study["pairs"][0]["b"]):
        assert secret not in page.content()
    expect(page.locator("#send")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    expect(page.locator("[aria-pressed=true][data-answer]")).to_have_text(["Left", "Right"])
    for video in page.locator("video").all():
        expect(video).to_have_js_property("paused", False)
    page.keyboard.press("Space")
    for video in page.locator("video").all():
        expect(video).to_have_js_property("paused", True)
    page.keyboard.press("Backspace")
    expect(page.locator("#send")).to_be_disabled()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#count")).to_have_text("Pair 2 of 2")
    expect(page.locator("[aria-pressed=true][data-answer]")).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("That was the last pair. Thank you.")).to_be_visible()
    found = results(study)
    assert (found["raters"], found["votes"], found["quality"]["tie"]) == (1, 2, 2)
    assert found["motion"]["a"] + found["motion"]["b"] == 2
    page.reload()
    expect(page.get_by_text("That was the last pair. Thank you.")).to_be_visible()


def test_somebody_else_votes_with_the_mouse_and_looks_at_the_paths(
    study: dict[str, Any], visit: Callable[[str], Page]
) -> None:
    page = visit(study["urls"]["link"])
    expect(page.locator("video")).to_have_count(2)
    plain = page.locator("video").first.get_attribute("src")
    page.get_by_role("button", name="Show the asked paths").click()
    expect(page.locator("video").first).to_have_attribute("src", f"{plain}?artifact=overlay")
    loaded(page)
    motion = page.get_by_role("group", name="Which video moves as it was asked to?")
    motion.get_by_role("button", name="Right").click()
    quality = page.get_by_role("group", name="Which video looks better?")
    quality.get_by_role("button", name="Left").click()
    left = page.evaluate("fetch(document.querySelector('[data-side=left]').src).then((one) => one.text())")
    assert left
    page.route("**/votes", lambda route: route.abort())
    page.get_by_role("button", name="Next pair").click()
    expect(page.get_by_role("alert")).to_contain_text("Your answers are still here")
    page.unroute("**/votes")
    page.get_by_role("button", name="Next pair").click()
    expect(page.locator("#count")).to_have_text("Pair 2 of 2")
    found = results(study)
    assert (found["raters"], found["votes"]) == (1, 1)
    assert [found["motion"][side] + found["quality"][side] for side in "ab"] == [1, 1]
    page.reload()
    expect(page.locator("#count")).to_have_text("Pair 2 of 2")


def test_an_address_that_leads_nowhere_says_so(live_stack: Stack, visit: Callable[[str], Page]) -> None:
    page = visit(f"{live_stack.base_url}/study")
    expect(page.get_by_text("the part behind # is missing")).to_be_visible()
    page = visit(f"{live_stack.base_url}/study#{'0' * 32}")
    expect(page.get_by_text("This study is over, or its address is mistyped.")).to_be_visible()


def test_the_page_is_served_as_strictly_as_the_studio(live_stack: Stack) -> None:
    answer = httpx.get(f"{live_stack.base_url}/study", timeout=WAIT_S)
    studio = httpx.get(live_stack.base_url, timeout=WAIT_S)
    for header in ("content-security-policy", "referrer-policy", "x-content-type-options"):
        assert answer.headers[header] == studio.headers[header]

"""The studio in a real browser, on the real service. Whatever the browser complains of fails the test."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from jobs.errors import DragAnythingError
from local.stack import Stack
from model import trajectory
from service.pages import kinds, remedy
from tests.harness import restart, until

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
WAIT_S = 60.0
ROCKET = (225, 130)
SMALL = {"Frames": 3, "Steps": 2, "Width": 64, "Height": 64, "Seed": 7}
SLOW = SMALL | {"Frames": 14, "Steps": 50}

expect.set_options(timeout=WAIT_S * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        yield browser
        browser.close()


class Studio:
    """The page as its user handles it."""

    def __init__(self, page: Page, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.complaints: list[str] = []
        self.forgiven: str | None = None
        page.set_default_timeout(WAIT_S * 1000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.goto(base_url)

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (self.forgiven and re.search(self.forgiven, text)):
            self.complaints.append(text)

    def ask(self, expression: str) -> Any:
        """The value of an expression of the page."""
        return self.page.evaluate(expression)

    def until(self, expression: str) -> None:
        """Wait for what nothing on the page shows."""
        for _ in range(int(WAIT_S * 20)):
            if self.ask(f"Boolean({expression})"):
                return
            self.page.wait_for_timeout(50)
        raise TimeoutError(expression)

    def open_example(self, name: str = "quickstart") -> None:
        self.page.locator(f"[data-example={name}]").click()
        self.until("studio.canvas.bitmap")
        expect(self.page.locator("#generate")).to_be_visible()

    def open_file(self, path: Path) -> None:
        self.page.set_input_files("#file", path)

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where a point of the picture is on the screen."""
        box = self.page.locator("#canvas").bounding_box()
        assert box
        x, y = self.ask(f"studio.canvas.toScreen({list(point)})")
        return box["x"] + x, box["y"] + y

    def click(self, point: tuple[float, float], key: str | None = None) -> None:
        if key:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.at(point))
        if key:
            self.page.keyboard.up(key)

    def drag(self, *points: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(point), steps=4)
        self.page.mouse.up()

    def draw_rocket(self) -> None:
        """One gesture: a path from the rocket upwards, and the rocket is found."""
        self.open_example()
        self.drag(ROCKET, (225, 80), (280, 40))
        self.until("studio.store.selected?.mask")
        expect(self.page.locator("[data-entity=rocket]")).to_be_visible()

    def set_video(self, values: dict[str, int]) -> None:
        self.page.get_by_text("Video settings").click()
        for label, value in values.items():
            field = self.page.get_by_label(label, exact=True)
            field.fill(str(value))
            field.press("Tab")
        self.until(f"studio.preview.frames === {values['Frames']}")

    def generate(self) -> None:
        self.page.get_by_role("button", name="Generate").click()
        self.until("studio.jobs.current")

    def entities(self) -> list[dict[str, Any]]:
        found = self.ask(
            "studio.store.doc.entities.map(({label, path, mask, still}) =>"
            " ({label, path, still, pixels: mask ? mask.bits.reduce((n, bit) => n + bit, 0) : 0}))"
        )
        return cast("list[dict[str, Any]]", found)

    def request(self) -> dict[str, Any]:
        """The body that would be sent now."""
        return cast("dict[str, Any]", self.ask("studio.preview.request(studio.store.doc)"))

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)


@pytest.fixture
def open_studio(browser: Browser, live_stack: Stack) -> Iterator[Callable[..., Studio]]:
    opened = []

    def open_one(**options: Any) -> Studio:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        opened.append(Studio(context.new_page(), live_stack.base_url))
        return opened[-1]

    yield open_one
    for one in opened:
        one.page.context.close()
    assert [one.complaints for one in opened] == [[] for _ in opened]


@pytest.fixture
def studio(open_studio: Callable[..., Studio]) -> Studio:
    return open_studio()


def test_a_rocket_is_drawn_rendered_and_kept(studio: Studio) -> None:
    page = studio.page
    studio.draw_rocket()
    (rocket,) = studio.entities()
    assert rocket["label"] == "rocket"
    assert rocket["path"][0] == pytest.approx(ROCKET, abs=1)
    assert rocket["path"][-1] == pytest.approx((280, 40), abs=1)
    assert 2 <= len(rocket["path"]) <= 5

    studio.button("Undo").click()
    assert studio.entities() == []
    studio.button("Redo").click()
    assert studio.entities() == [rocket]

    page.locator("#scrub").fill("9")
    assert studio.ask("studio.store.ui.frame") == 9
    expect(page.locator("#overlay")).to_be_enabled()
    page.locator("#overlay").click()
    studio.until("studio.preview.shown.frames.length === 14")

    studio.set_video(SMALL | {"Takes": 2})
    studio.generate()
    address = page.url
    assert "?job=" in address
    expect(page.get_by_role("progressbar", name="Progress").or_(page.locator("video"))).to_be_visible()
    page.reload()
    assert page.url == address
    video = page.locator("video")
    expect(video).to_be_visible()
    assert studio.entities() == [rocket]
    studio.until("document.querySelector('video').readyState >= 2")

    studio.button("Next frame of the video").click()
    studio.until("document.querySelector('video').paused")
    expect(page.locator("#video-frame")).to_have_text(re.compile(r"[012] / 2"))
    studio.button("Seed 8").click()  # the other take, or the best one
    studio.until("document.querySelector('video').readyState >= 2")
    with page.expect_download() as download:
        page.locator("[data-artifact=video]").click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    manifest = studio.ask("fetch('/v1/jobs/' + studio.jobs.current.id).then((answer) => answer.json())")
    assert manifest["result"]["seed"] in (7, 8)
    assert manifest["result"]["num_frames"] == 3

    studio.button("Videos").click()
    expect(page.locator(".card").first).to_contain_text(f"Seed {manifest['result']['seed']}")
    page.keyboard.press("Escape")
    studio.button("Close the video").click()
    expect(video).to_be_hidden()
    assert "job=" not in page.url


def test_a_job_outlives_the_connection_and_is_canceled(studio: Studio, live_stack: Stack) -> None:
    studio.draw_rocket()
    studio.set_video(SLOW)
    studio.generate()
    studio.until("studio.jobs.current.status === 'running'")
    studio.forgiven = r"Failed to load resource|ERR_"
    restart(live_stack, "api")
    notices = studio.page.locator("#notices")
    try:
        expect(notices).to_contain_text("The connection is lost.")
    finally:
        until(live_stack.serves, WAIT_S)
    expect(notices).to_be_empty()
    studio.button("Cancel").click()
    expect(studio.page.get_by_text("You stopped it.")).to_be_visible()
    assert [entity["label"] for entity in studio.entities()] == ["rocket"]
    expect(studio.page.locator("#generate")).to_be_enabled()


def test_the_four_variations_are_one_batch(studio: Studio) -> None:
    studio.draw_rocket()
    studio.set_video(SMALL)
    studio.generate()
    studio.button("Four variations").click()
    expect(studio.page.get_by_text("Choose one.")).to_be_visible()
    cards = studio.page.locator(".card b")
    expect(cards).to_have_count(4)
    assert len(set(cards.all_text_contents())) == 4
    chosen = cards.nth(1).text_content()
    cards.nth(1).click()
    expect(studio.page.locator("video")).to_be_visible()
    assert f"Seed {studio.ask('studio.jobs.current.result.seed')}" == chosen


def test_a_video_goes_on_from_its_last_frame(studio: Studio) -> None:
    studio.draw_rocket()
    studio.set_video(SMALL)
    studio.generate()
    studio.button("Go on from the last frame").click()
    studio.until("studio.store.doc.image.extends")
    earlier = studio.ask("studio.store.doc.image.extends")
    studio.until("studio.canvas.bitmap.width === 64")
    expect(studio.page.locator("video")).to_be_hidden()
    assert all(thing["label"] == "rocket" and not thing["path"] and thing["pixels"] for thing in studio.entities())

    studio.page.keyboard.press("b")
    studio.drag((20, 40), (26, 40))
    studio.page.keyboard.press("v")
    studio.drag((23, 40), (45, 20))
    body = studio.request()
    assert body["extends"] == earlier
    assert not body.keys() & {"image", "width", "height"}
    studio.generate()
    expect(studio.page.locator("video")).to_be_visible()
    assert studio.ask("studio.jobs.current.result.num_frames") == 5
    assert studio.ask("studio.jobs.current.id") != earlier


@pytest.fixture
def square(tmp_path: Path) -> Path:
    """A red square from (60, 40) to (120, 100) on grey."""
    image = Image.new("RGB", (240, 160), "#888")
    ImageDraw.Draw(image).rectangle((60, 40, 119, 99), fill="#c22")
    image.save(tmp_path / "square.png")
    return tmp_path / "square.png"


def test_an_own_picture_is_segmented_brushed_and_sent_as_it_is_seen(studio: Studio, square: Path) -> None:
    page = studio.page
    studio.open_file(square)
    studio.until("studio.canvas.bitmap")
    with page.expect_response("**/v1/segment") as answer:
        studio.click((90, 70))
    assert answer.value.ok
    studio.until("studio.store.selected?.mask")
    (entity,) = studio.entities()
    assert entity["pixels"] == pytest.approx(3600, rel=0.1)

    page.keyboard.press("e")
    studio.drag((50, 70), (130, 70))
    erased = studio.entities()[0]["pixels"]
    assert erased < entity["pixels"] - 600
    page.keyboard.press("b")
    studio.drag((150, 70), (150, 90))
    assert studio.entities()[0]["pixels"] > erased + 400
    for _ in range(2):
        page.keyboard.press("Control+z")
    assert studio.entities()[0] == entity

    page.keyboard.press("p")
    for point in ((90, 70), (150, 70), (150, 120)):
        studio.click(point)
    page.keyboard.press("Enter")
    page.keyboard.press("v")
    path = studio.entities()[0]["path"]
    assert np.allclose(path, [(90, 70), (150, 70), (150, 120)], atol=0.5)
    studio.drag((150, 70), (170, 60))
    assert studio.entities()[0]["path"][1] == pytest.approx((170, 60), abs=1)
    page.keyboard.press("Delete")
    assert len(studio.entities()[0]["path"]) == 2

    studio.click((200, 30))
    studio.until("studio.store.doc.entities[1]?.mask")
    page.keyboard.press("a")
    studio.click((200, 30))
    assert [one["still"] for one in studio.entities()] == [False, True]

    before = studio.request()
    page.mouse.move(*studio.at((100, 100)))
    page.mouse.wheel(0, -300)
    page.keyboard.press("h")
    studio.drag((100, 100), (60, 60))
    assert studio.request() == before
    moving, still = (np.array(entity["trajectory"]["points"]) for entity in before["entities"])
    np.testing.assert_allclose(moving, [(90, 70), (150, 120)], atol=1)
    assert len(still) == 1
    live = httpx.post(f"{studio.base_url}/v1/preview", json=before, timeout=WAIT_S)
    assert live.status_code == 200, live.text


def test_warnings_and_errors_stand_where_they_belong(studio: Studio) -> None:
    page = studio.page
    studio.draw_rocket()
    page.evaluate("studio.store.entity(studio.store.ui.selected, () => ({path: [[225, 130], [900, 130]]}))")
    expect(page.locator("[data-entity=rocket] .warning").first).to_contain_text("from frame")
    page.evaluate("studio.store.entity(studio.store.ui.selected, () => ({mask: null}))")
    expect(page.locator("#generate")).to_be_disabled()
    expect(page.locator("#start")).to_contain_text("no outline yet")


def test_the_maths_of_paths_is_the_server_s(studio: Studio) -> None:
    random = np.random.default_rng(3)
    easings: list[trajectory.Easing] = ["linear", "ease_in", "ease_out", "ease_in_out"]

    def tracks(call: str) -> Any:
        return studio.ask(f"import('/studio/tracks.js').then((it) => it.{call})")

    for count in (1, 2, 3, 7):
        points = random.uniform(-50, 500, (count, 2))
        points[-1] = points[0] if count == 3 else points[-1]
        for frames, start, end in ((14, 0, 13), (9, 2, 6), (2, 0, 1)):
            for easing in easings:
                options: dict[str, Any] = {"easing": easing, "start": start, "end": end}
                each = [easings[i % 4] for i in range(count - 1)] if count == 7 else None
                ours = tracks(f"resample({points.tolist()}, {frames}, {json.dumps(options | {'easings': each})})")
                theirs = trajectory.resample(
                    points, frames, easing=easing, easings=each, start_frame=start, end_frame=end
                )
                np.testing.assert_allclose(ours, theirs, atol=1e-9)
    track = random.uniform(0, 300, (14, 2))
    move: dict[str, Any] = {"pan": [30, -12], "zoom": 1.3, "roll": 15, "easing": "ease_in"}
    ours = tracks(f"follow({track.tolist()}, [320, 200], {json.dumps(move)})")
    np.testing.assert_allclose(ours, trajectory.camera(track, (320, 200), **move), atol=1e-9)
    line = np.stack([np.linspace(0, 300, 200), 40 * np.sin(np.linspace(0, 6, 200))], axis=1)
    simple = tracks(f"simplify({line.tolist()}, 1.5)")
    assert len(simple) < 20
    assert max(tracks(f"nearest({point.tolist()}, {simple}).distance") for point in line) <= 1.5


BENT = "entity.path = [[225, 130], [60, 40], [300, 250]]"


@pytest.mark.parametrize(
    "change",
    [
        f"{BENT}; entity.easing = 'ease_out'; entity.start = 3; entity.end = 30",
        f"{BENT}; entity.easings = ['ease_in', 'ease_in_out']; doc.loop = true",
        f"{BENT}; entity.path[2] = [225, 130]; doc.loop = true; doc.camera = {{...doc.camera, zoom: 2, roll: 8}}",
        "entity.path = []; doc.camera = {pan: [-60, 20], zoom: 0.8, roll: -9, easing: 'ease_in'}; doc.hold = true",
    ],
)
def test_what_scrubbing_shows_is_what_the_server_lays_out(studio: Studio, change: str) -> None:
    studio.draw_rocket()
    studio.ask(
        "studio.store.commit((held) => { const doc = {...held}; const entity = {...doc.entities[0]};"
        f" {change}; return {{...doc, entities: [entity]}}; }})"
    )
    studio.until("studio.preview.shown && !studio.preview.busy")
    shown = studio.ask("(({points, width, height}) => ({points, width, height}))(studio.preview.shown)")
    ours = studio.ask(
        "import('/studio/tracks.js').then((it) =>"
        " it.trackOf(studio.store.doc.entities[0], studio.store.doc, studio.preview.frames))"
    )
    image = studio.ask("[studio.store.doc.image.width, studio.store.doc.image.height]")
    theirs = np.array(shown["points"][-1])
    np.testing.assert_allclose(np.array(ours) / image * [shown["width"], shown["height"]], theirs, atol=1.01)
    assert len(np.unique(theirs, axis=0)) > 3


def test_a_wrong_file_is_refused_where_it_was_picked(studio: Studio, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.png"
    wrong.write_text("not a picture")
    studio.open_file(wrong)
    expect(studio.page.locator("#pick-error")).to_contain_text("notes.png can not be read as a picture")
    studio.draw_rocket()
    studio.open_file(wrong)
    expect(studio.page.locator("#notices")).to_contain_text("can not be read")
    assert len(studio.entities()) == 1


def test_a_lost_server_costs_no_drawing(studio: Studio) -> None:
    page = studio.page
    studio.draw_rocket()
    studio.until("studio.preview.shown")
    studio.forgiven = r"Failed to load resource|ERR_"
    page.route("**/v1/**", lambda route: route.abort())
    studio.button("Generate").click()
    expect(page.locator("#start .error")).to_contain_text("The server does not answer")
    drawn = studio.entities()
    page.wait_for_timeout(500)  # the drawing is saved a moment after the last change
    page.reload()
    studio.until("studio.store.doc.image")
    assert studio.entities() == drawn
    page.unroute("**/v1/**")
    page.goto(f"{studio.base_url}/?job=01a000000000000000000000000000ff")
    expect(page.locator("#result")).to_contain_text("This video is gone")
    assert studio.entities() == drawn


def test_a_page_that_is_older_than_the_worker_finds_its_model(studio: Studio) -> None:
    studio.page.route("**/v1/models", lambda route: route.fulfill(json={"models": []}), times=1)
    studio.page.reload()
    studio.draw_rocket()
    studio.until("studio.preview.card")
    expect(studio.page.get_by_text("Waiting for a model")).to_be_hidden()


def test_a_key_is_asked_for_and_sent(studio: Studio) -> None:
    page = studio.page
    problem = {"title": "No valid key", "status": 401, "code": "unauthorized", "detail": "Send a key."}

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer da_right":
            route.continue_()
        else:
            route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(problem))

    studio.forgiven = "401"
    page.route("**/v1/**", guard)
    page.reload()
    field = page.get_by_label("This server asks for an API key")
    field.fill("da_wrong")
    field.press("Enter")
    again = page.get_by_label("This key does not work")
    again.fill("da_right")
    again.press("Enter")
    studio.until("studio.preview.card")
    expect(page.locator("#notices")).to_be_empty()
    assert studio.ask("Object.values(localStorage).join().includes('da_right')") is False


def test_pages_are_strict_and_cached(live_stack: Stack) -> None:
    with httpx.Client(base_url=live_stack.base_url) as client:
        for path in ("/", "/studio/main.js", "/problems", "/studio/examples/quickstart/image.jpg"):
            answer = client.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'self'; ")
            assert "unsafe" not in policy
            assert live_stack.seaweed.settings()["s3_endpoint"] in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for path in ("/studio/nothing.js", "/studio/../pages.py", "/studio/%2e%2e/pages.py"):
            assert client.get(path).status_code == 404
        page = client.get("/problems").text
        markup = page + client.get("/").text.replace(_MAIN, "")
        assert not re.search(r"<(style|script)\b|\son\w+=|\sstyle=", markup)
    for kind in kinds(DragAnythingError):
        assert f'id="{kind.code}"' in page
        assert len(remedy(kind)) > 20


_MAIN = '<script type="module" src="studio/main.js">'

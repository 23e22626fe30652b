"""Hostile and mistaken bodies: each is refused with a code and a pointer, and leaves nothing behind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from redis import Redis
from starlette.testclient import TestClient

from tests import doors
from tests.harness import empty_bucket, flush
from tests.security.files import bomb, chunk, text_bomb

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Body = dict[str, Any]
HUGE = 10**300
ENTITY = "/entities/0"
MASK, TRACK, POINTS = f"{ENTITY}/mask", f"{ENTITY}/trajectory", f"{ENTITY}/trajectory/points"


def saved(kind: str, size: tuple[int, int] = (doors.WIDTH, doors.HEIGHT), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, kind, **options)
    return file.getvalue()


def put(path: str, value: Any) -> Callable[[Body], None]:
    """Set what is at a JSON pointer."""

    def mutate(body: Body) -> None:
        *parents, last = path.strip("/").split("/")
        here: Any = body
        for step in parents:
            here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value

    return mutate


def drop(*path: str) -> Callable[[Body], None]:
    def mutate(body: Body) -> None:
        here: Any = body
        for step in path[:-1]:
            here = here[int(step)] if isinstance(here, list) else here[step]
        del here[path[-1]]

    return mutate


def image(data: bytes) -> Callable[[Body], None]:
    return put("/image/base64", doors.text(data))


def mask(**source: Any) -> Callable[[Body], None]:
    return put(MASK, source)


def mask_file(data: bytes) -> Callable[[Body], None]:
    return mask(base64=doors.text(data))


def rle(counts: Any, size: Any = (doors.HEIGHT, doors.WIDTH)) -> Callable[[Body], None]:
    return mask(rle={"size": list(size), "counts": counts})


def entities(count: int) -> Callable[[Body], None]:
    def mutate(body: Body) -> None:
        body["entities"] = body["entities"] * count

    return mutate


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


PNG, JPEG, WEBP = doors.picture(), doors.picture(kind=".jpg"), doors.picture(kind=".webp")
NOT_IMAGES: dict[str, bytes] = {
    "text": b"hello",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="96" height="64"><script>alert(1)</script></svg>',
    "gif": saved("GIF"),
    "tiff": saved("TIFF"),
    "bmp": saved("BMP"),
    "pdf": saved("PDF"),
    "ico": saved("ICO"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 64\n",
    "html": b"<!doctype html><img src=x onerror=alert(1)>",
    "zip": b"PK\x03\x04" + b"\0" * 100,
    "elf": b"\x7fELF" + b"\0" * 100,
    "gif that ends as a png": saved("GIF") + PNG,
    "pdf before a jpeg": b"%PDF-1.4\n" + JPEG,
    "png signature alone": PNG[:8],
    "jpeg signature alone": JPEG[:3],
    "webp signature alone": WEBP[:12],
    "png header alone": PNG[:33],
    "half a png header": PNG[:20],
    "zeros": b"\0" * 1000,
}
DAMAGED: dict[str, bytes] = {
    **{f"{name} cut at {share}": cut(data, share)
       for name, data in (("png", PNG), ("jpeg", JPEG), ("webp", WEBP))
       for share in (0.5, 0.9)},
    "png of another checksum": PNG[:60] + b"\xff\xff\xff" + PNG[63:],
    "png with a bomb in its comment": text_bomb(),
    "png without data": PNG[:33] + chunk(b"IEND", b""),
}  # fmt: skip
BOMBS = {
    f"{w} x {h}": bomb(w, h) for w, h in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (6400, 6400), (40_000_001, 16))
}

CORPUS: list[tuple[str, Callable[[Body], None], str]] = [
    # the picture
    ("no image", drop("image"), "/image"),
    ("image is null", put("/image", None), "/image"),
    ("image is text", put("/image", doors.text(PNG)), "/image"),
    ("image is a list", put("/image", []), "/image"),
    ("image without a source", put("/image", {}), "/image"),
    ("two sources", put("/image", {"base64": doors.text(PNG), "url": "https://a.example/b.png"}), "/image"),
    ("url, which is off", put("/image", {"url": "http://169.254.169.254/latest"}), "/image/url"),
    ("file url", put("/image", {"url": "file:///etc/passwd"}), "/image/url"),
    ("upload, which is off", put("/image", {"upload": "../../secrets"}), "/image/upload"),
    ("unknown image field", put("/image/path", "/etc/passwd"), "/image/path"),
    ("base64 is a number", put("/image/base64", 7), "/image/base64"),
    ("base64 is empty", put("/image/base64", ""), "/image/base64"),
    ("not base64", put("/image/base64", "!!!"), "/image/base64"),
    ("base64 with a line break", put("/image/base64", "QUJD\nQUJD"), "/image/base64"),
    ("url-safe base64", put("/image/base64", "-_-_"), "/image/base64"),
    ("base64 without its padding", put("/image/base64", "QUI"), "/image/base64"),
    ("base64 that is not ASCII", put("/image/base64", "é" * 40), "/image/base64"),
    ("lone surrogate", put("/image/base64", "\ud800"), "/image/base64"),
    ("data: prefix", put("/image/base64", "data:image/png;base64," + doors.text(PNG)), "/image/base64"),
    ("over 20 MB", put("/image/base64", "A" * 28_000_004), "/image/base64"),
    ("too small", image(doors.picture(15, 64)), "/image/base64"),
    ("one pixel", image(saved("PNG", (1, 1))), "/image/base64"),
    *((f"image: {name}", image(data), "/image/base64") for name, data in NOT_IMAGES.items()),
    *((f"image: {name}", image(data), "/image/base64") for name, data in DAMAGED.items()),
    *((f"image: bomb of {name}", image(data), "/image/base64") for name, data in BOMBS.items()),
    # masks
    ("mask without a source", mask(), MASK),
    ("mask is a path", put(MASK, "/etc/passwd"), MASK),
    ("two masks", mask(box=[0, 0, 9, 9], polygon=[[0, 0], [9, 0], [9, 9]]), MASK),
    ("unknown mask field", mask(box=[0, 0, 9, 9], url="x"), f"{MASK}/url"),
    ("mask is not base64", mask(base64="%"), f"{MASK}/base64"),
    ("mask with a data: prefix", mask(base64="data:image/png;base64,AAAA"), f"{MASK}/base64"),
    ("mask of another size", mask_file(doors.file_of(np.full((64, 64), 255, np.uint8))), f"{MASK}/base64"),
    ("mask lying on its side", mask_file(doors.file_of(np.full((96, 64), 255, np.uint8))), f"{MASK}/base64"),
    ("empty mask", mask_file(doors.file_of(np.zeros((64, 96), np.uint8))), f"{MASK}/base64"),
    ("dark mask", mask_file(doors.file_of(np.full((64, 96), 127, np.uint8))), f"{MASK}/base64"),
    *((f"mask: {name}", mask_file(data), f"{MASK}/base64") for name, data in NOT_IMAGES.items()),
    *((f"mask: {name}", mask_file(data), f"{MASK}/base64") for name, data in DAMAGED.items()),
    *((f"mask: bomb of {name}", mask_file(data), f"{MASK}/base64") for name, data in BOMBS.items()),
    # run lengths
    ("runs that do not add up", rle([100, 200]), f"{MASK}/rle/counts"),
    ("runs of too many pixels", rle([100, 64 * 96]), f"{MASK}/rle/counts"),
    ("no runs", rle([]), f"{MASK}/rle/counts"),
    ("runs of nothing", rle([64 * 96]), f"{MASK}/rle"),
    ("negative run", rle([-1, 64 * 96 + 1]), f"{MASK}/rle/counts/0"),
    ("fractional run", rle([0.5]), f"{MASK}/rle/counts/0"),
    ("run that overflows", rle([2**63, 1]), f"{MASK}/rle/counts"),
    ("runs that wrap around", rle([2**62] * 4 + [64 * 96]), f"{MASK}/rle/counts"),
    ("run of 300 digits", rle([HUGE]), f"{MASK}/rle/counts"),
    ("infinite run", rle([float("inf")]), f"{MASK}/rle/counts/0"),
    ("counts is a number", rle(5), f"{MASK}/rle/counts"),
    ("counts is null", rle(None), f"{MASK}/rle/counts"),
    ("counts is an object", rle({"plain": 1}), f"{MASK}/rle/counts"),
    ("wrong run in the middle", rle([1, "x", "y"]), f"{MASK}/rle/counts/1"),
    ("too many runs", rle([0] * 1_000_001), f"{MASK}/rle/counts"),
    ("empty text", rle(""), f"{MASK}/rle/counts"),
    ("garbage text", rle("~~~~"), f"{MASK}/rle/counts"),
    ("text below the alphabet", rle(" !#"), f"{MASK}/rle/counts"),
    ("text that is not ASCII", rle("é0"), f"{MASK}/rle/counts"),
    ("text that ends within a run", rle("o"), f"{MASK}/rle/counts"),
    ("endless run in the text", rle("o" * 1000), f"{MASK}/rle/counts"),
    ("negative run in the text", rle("N"), f"{MASK}/rle/counts"),
    ("long text", rle("0" * 1_000_001), f"{MASK}/rle/counts"),
    ("size of another image", rle([0, 100], (10, 10)), f"{MASK}/rle"),
    ("size swapped", rle([0, 64 * 96], (96, 64)), f"{MASK}/rle"),
    ("size of nothing", rle([0], (0, 0)), f"{MASK}/rle/size/0"),
    ("size of one number", rle([0], [64]), f"{MASK}/rle/size/1"),
    ("astronomic size", rle([0], (10**30, 10**30)), f"{MASK}/rle"),
    # polygons and boxes
    ("polygon of two corners", mask(polygon=[[0, 0], [9, 9]]), f"{MASK}/polygon"),
    ("polygon outside", mask(polygon=[[-90, -90], [-80, -90], [-80, -80]]), f"{MASK}/polygon"),
    ("huge polygon", mask(polygon=[[0, 0], [1e300, 0], [0, 1e300]]), f"{MASK}/polygon"),
    ("polygon of NaN", mask(polygon=[[0, 0], [float("nan"), 0], [9, 9]]), f"{MASK}/polygon/1/0"),
    ("polygon of text", mask(polygon="0,0 9,9"), f"{MASK}/polygon"),
    ("polygon in 3D", mask(polygon=[[0, 0, 0], [9, 0, 0], [9, 9, 0]]), f"{MASK}/polygon/0"),
    ("polygon of 1001 corners", mask(polygon=[[0, 0]] * 1001), f"{MASK}/polygon"),
    ("inverted box", mask(box=[50, 50, 20, 20]), f"{MASK}/box"),
    ("flat box", mask(box=[10, 10, 10, 30]), f"{MASK}/box"),
    ("box outside", mask(box=[500, 500, 600, 600]), f"{MASK}/box"),
    ("box of three", mask(box=[0, 0, 9]), f"{MASK}/box/3"),
    ("infinite box", mask(box=[0, 0, float("inf"), 9]), f"{MASK}/box/2"),
    # trajectories
    ("no trajectory", drop("entities", "0", "trajectory"), TRACK),
    ("no points", put(POINTS, []), POINTS),
    ("points is a number", put(POINTS, 3), POINTS),
    ("a point of one number", put(POINTS, [[1]]), f"{POINTS}/0/1"),
    ("a point of three", put(POINTS, [[1, 2, 3]]), f"{POINTS}/0"),
    ("a point of text", put(POINTS, [[1, 2], ["x", 2]]), f"{POINTS}/1/0"),
    ("a point of nothing", put(POINTS, [[None, 2]]), f"{POINTS}/0/0"),
    ("a point of objects", put(POINTS, [[{}, []]]), f"{POINTS}/0/0"),
    ("NaN", put(POINTS, [[1, float("nan")]]), f"{POINTS}/0/1"),
    ("Infinity", put(POINTS, [[float("inf"), 1]]), f"{POINTS}/0/0"),
    ("-Infinity", put(POINTS, [[float("-inf"), 1]]), f"{POINTS}/0/0"),
    ("beyond 2^30 pixels", put(POINTS, [[1e300, 1]]), TRACK),
    ("an integer of 300 digits", put(POINTS, [[HUGE, 1]]), TRACK),
    ("an integer of 400 digits", put(POINTS, [[10**400, 1]]), f"{POINTS}/0/0"),
    ("1001 points", put(POINTS, [[1, 1]] * 1001), POINTS),
    ("a million points", put(POINTS, [[1, 1]] * 10**6), POINTS),
    ("unknown timing", put(f"{TRACK}/timing", "beat"), f"{TRACK}/timing"),
    ("unknown easing", put(f"{TRACK}/easing", "__import__"), f"{TRACK}/easing"),
    ("unknown space", put(f"{TRACK}/space", "world"), f"{TRACK}/space"),
    ("too many easings", put(f"{TRACK}/easings", ["linear", "linear"]), TRACK),
    ("unknown easing of a segment", put(f"{TRACK}/easings", ["x"]), f"{TRACK}/easings/0"),
    ("negative frame", put(f"{TRACK}/start_frame", -1), f"{TRACK}/start_frame"),
    ("frame after the last", put(f"{TRACK}/end_frame", 14), f"{TRACK}/end_frame"),
    ("start after the last frame", put(f"{TRACK}/start_frame", 99), f"{TRACK}/start_frame"),
    ("start after the end", put(TRACK, {"points": [[1, 1]], "start_frame": 5, "end_frame": 4}), TRACK),
    ("unknown track field", put(f"{TRACK}/speed", 1), f"{TRACK}/speed"),
    # entities
    ("no entities", drop("entities"), "/entities"),
    ("no entity", put("/entities", []), "/entities"),
    ("17 entities", entities(17), "/entities"),
    ("entities is an object", put("/entities", {"0": {}}), "/entities"),
    ("an entity of null", put(ENTITY, None), ENTITY),
    ("unknown entity field", put(f"{ENTITY}/a~b~1c", 1), f"{ENTITY}/a~0b~01c"),
    ("entity field of slashes", put(f"{ENTITY}/x", 1), f"{ENTITY}/x"),
    ("long label", put(f"{ENTITY}/label", "x" * 101), f"{ENTITY}/label"),
    ("label is a number", put(f"{ENTITY}/label", 1), f"{ENTITY}/label"),
    ("unknown control", put(f"{ENTITY}/control", "mind"), f"{ENTITY}/control"),
    ("scale of nothing", put(f"{ENTITY}/scale", {"start": 0}), f"{ENTITY}/scale/start"),
    ("scale of NaN", put(f"{ENTITY}/scale", {"end": float("nan")}), f"{ENTITY}/scale/end"),
    ("unknown scale field", put(f"{ENTITY}/scale", {"middle": 1}), f"{ENTITY}/scale/middle"),
    # the rest
    ("unknown field", put("/prompt", "a bird"), "/prompt"),
    ("field named as pydantic names things", put("/list[int]", 1), "/list[int]"),
    ("field named str", put("/str", 1), "/str"),
    ("empty field name", put("/", 1), "/"),
    ("__proto__", put("/__proto__", {"x": 1}), "/__proto__"),
    ("unknown model", put("/model", "gpt"), "/model"),
    ("model with a key in it", put("/model", "tiny\0:x\r\n"), "/model"),
    ("model of a million letters", put("/model", "m" * 10**6), "/model"),
    ("model is null", put("/model", None), "/model"),
    ("width off the grid", put("/width", 200), "/width"),
    ("width of nothing", put("/width", 0), "/width"),
    ("negative height", put("/height", -64), "/height"),
    ("height is text", put("/height", "tall"), "/height"),
    ("astronomic width", put("/width", 64 * 10**30), "/width"),
    ("height of too many pixels", put("/height", 6400), "/height"),
    ("too many frames", put("/num_frames", 26), "/num_frames"),
    ("no frames", put("/num_frames", 0), "/num_frames"),
    ("frames without end", put("/num_frames", HUGE), "/num_frames"),
    ("half a frame", put("/num_frames", 1.5), "/num_frames"),
    ("too many steps", put("/num_inference_steps", 51), "/num_inference_steps"),
    ("negative seed", put("/seed", -1), "/seed"),
    ("seed of 64 bits", put("/seed", 2**63), "/seed"),
    ("guidance of NaN", put("/max_guidance_scale", float("nan")), "/max_guidance_scale"),
    ("negative guidance", put("/min_guidance_scale", -1), "/min_guidance_scale"),
    ("control that starts after its end", put("/control_start", 1.5), "/control_start"),
    ("infinite control", put("/control_scale", float("inf")), "/control_scale"),
    ("unknown tier", put("/tier", "free"), "/tier"),
    ("tier that this model lacks", put("/tier", "fast"), "/tier"),
    ("unknown sampler", put("/sampler", "ddim"), "/sampler"),
    ("best of too many", put("/best_of", 17), "/best_of"),
    ("loop is a number", put("/loop", 1), "/loop"),
    ("seed is text", put("/seed", "7"), "/seed"),
    ("frames are a truth value", put("/num_frames", True), "/num_frames"),
    ("extends beside an image", put("/extends", "0" * 32), "/image"),
    ("webhook without a secret", put("/webhook", {"url": "http://127.0.0.1/"}), "/webhook"),
    ("unknown format", put("/output/format", "exe"), "/output/format"),
    ("no frames per second", put("/output/fps", 0), "/output/fps"),
    ("unknown output field", put("/output/path", "/tmp/x"), "/output/path"),
    ("unknown priority", put("/priority", "urgent"), "/priority"),
    ("deadline of nothing", put("/deadline_s", 0), "/deadline_s"),
    ("deadline of NaN", put("/deadline_s", float("nan")), "/deadline_s"),
    ("camera that is a list", put("/camera", []), "/camera"),
    ("camera without zoom", put("/camera", {"zoom": 0}), "/camera/zoom"),
    ("camera of NaN", put("/camera", {"roll": float("nan")}), "/camera/roll"),
    ("camera that pans too far", put("/camera", {"pan": [1.7e308, 1e308], "zoom": 10}), "/camera/pan/0"),
    ("hold_background is a number", put("/hold_background", 7), "/hold_background"),
]  # fmt: skip


@pytest.fixture(scope="module")
def kept(api: TestClient, servers: Any) -> tuple[TestClient, Redis, S3Client]:
    """The application with a model announced, and what to look for leftovers with."""
    redis = Redis.from_url(servers.valkey.url)
    flush(servers.valkey.url)
    empty_bucket(servers)
    doors.announce(redis)
    return api, redis, servers.seaweed.client()


@pytest.mark.parametrize(("name", "mutate", "pointer"), CORPUS, ids=[name for name, *_ in CORPUS])
def test_wrong_fields(
    kept: tuple[TestClient, Redis, S3Client], name: str, mutate: Callable[[Body], None], pointer: str
) -> None:
    client, redis, s3 = kept
    body = doors.request()
    mutate(body)
    keys = doors.keys(redis)
    headers = {"Content-Type": "application/json", "Idempotency-Key": name.encode().hex()}
    answer = client.post("/v1/generate", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422, answer.text[:1000]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "errors"}
    assert (problem["status"], problem["code"]) == (422, "invalid_request")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert all(error["detail"].endswith((".", "]")) for error in problem["errors"])
    assert len(answer.content) < 1500  # nothing large is sent back
    assert doors.keys(redis) == keys
    assert doors.objects(s3) == set()


def test_the_corpus_is_large() -> None:
    assert len({name for name, *_ in CORPUS}) == len(CORPUS) > 120


VALID = json.dumps(doors.request()).encode()
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "cut": VALID[:-1],
    "two values": VALID + b"{}",
    "trailing comma": VALID[:-1] + b",}",
    "single quotes": b"{'image': 1}",
    "comment": b"/* */ {}",
    "form": b"image=x&entities=y",
    "invalid UTF-8": VALID.replace(b"square", b"squ\xffre"),
    "UTF-16": VALID.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + VALID,
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep inside": VALID[:-1] + b',"webhook":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "integer of 5000 digits": VALID[:-1] + b',"seed":' + b"1" * 5000 + b"}",
    "duplicate names": VALID[:-1] + b',"seed":1,"seed":2}',
    "duplicate names inside": VALID[:-1] + b',"output":{"fps":1,"fps":2}}',
    "100,000 fields": VALID[:-1] + b"," + b",".join(b'"k%d":1' % i for i in range(100_000)) + b"}",
    "control character": VALID.replace(b"square", b"squ\x01re"),
    "null byte": VALID + b"\0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_json(kept: tuple[TestClient, Redis, S3Client], name: str) -> None:
    client, redis, s3 = kept
    keys = doors.keys(redis)
    answer = client.post("/v1/generate", content=MALFORMED[name], headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json"), answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert "body is" in answer.json()["detail"]
    assert len(answer.content) < 300
    assert (doors.keys(redis), doors.objects(s3)) == (keys, set())


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"7", b"true", b"NaN"])
def test_json_that_is_no_object(kept: tuple[TestClient, Redis, S3Client], body: bytes) -> None:
    answer = kept[0].post("/v1/generate", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "JSON object" in answer.json()["detail"]


def test_a_number_too_large_for_a_float_is_infinite(kept: tuple[TestClient, Redis, S3Client]) -> None:
    body = VALID[:-1] + b',"control_scale":1e999}'
    answer = kept[0].post("/v1/generate", content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["errors"][0]["pointer"] == "/control_scale"


def test_the_whole_request_can_be_wrong(kept: tuple[TestClient, Redis, S3Client]) -> None:
    answer = kept[0].post("/v1/generate", json=doors.request(control_start=0.9, control_end=0.1))
    assert answer.json()["errors"] == [{"pointer": "", "detail": "control_start must not come after control_end."}]


def test_a_name_that_is_no_unicode(kept: tuple[TestClient, Redis, S3Client]) -> None:
    body = VALID.replace(b'"label"', b'"\\ud800": 1, "label"')
    answer = kept[0].post("/v1/generate", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_long_names_are_not_sent_back(kept: tuple[TestClient, Redis, S3Client]) -> None:
    answer = kept[0].post("/v1/generate", json=doors.request(**{"x" * 10**6: 1}))
    assert answer.json()["errors"][0]["pointer"] == "/" + "x" * 64


def test_many_errors_are_counted_and_the_first_told(kept: tuple[TestClient, Redis, S3Client]) -> None:
    answer = kept[0].post("/v1/generate", json=doors.request(**{f"x{i}": 1 for i in range(50)}))
    assert answer.json()["detail"].startswith("50 fields are wrong")
    assert len(answer.json()["errors"]) == 20


def test_all_wrong_masks_are_told_at_once(kept: tuple[TestClient, Redis, S3Client]) -> None:
    body = doors.request()
    body["entities"] = [
        {"mask": {"box": [9, 9, 0, 0]}, "trajectory": {"points": [[1, 1]]}},
        {"mask": {"box": [0, 0, 9, 9]}, "trajectory": {"points": [[1, 1]]}},
        {"trajectory": {"points": [[-1, 1]]}},
    ]
    errors = kept[0].post("/v1/generate", json=body).json()["errors"]
    assert [error["pointer"] for error in errors] == ["/entities/0/mask/box", "/entities/2/mask"]


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "x" * 999,
    ],
)
def test_other_media_types(kept: tuple[TestClient, Redis, S3Client], media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = kept[0].post("/v1/generate", content=VALID, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
def test_json_by_its_other_names(client: TestClient, media_type: str) -> None:
    answer = client.post("/v1/generate", content=VALID, headers={"Content-Type": media_type})
    assert answer.status_code == 202

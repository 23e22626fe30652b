"""Random values at random places of a request are refused or accepted, never an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from starlette.testclient import TestClient

from local.stack import Stack
from tests import doors
from tests.harness import empty_bucket, flush

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["", "AAAA", 0, 1, -1, 2**31, 2**63, 10**400, 1e300, "linear", "\ud800", "\0"]),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=8), children, max_size=5),
    max_leaves=8,
)

RICH: dict[str, Any] = {
    **doors.request(),
    "entities": [
        {**doors.request()["entities"][0], "scale": {"start": 1.0, "end": 1.5}, "control": "point"},
        {
            "mask": {"rle": {"size": [doors.HEIGHT, doors.WIDTH], "counts": [100, 20, 6024]}},
            "trajectory": {
                "points": [[1, 2], [3.5, 4], [50, 20]],
                "timing": "per_point",
                "easings": ["ease_in", "linear"],
                "start_frame": 1,
                "end_frame": 4,
            },
        },
        {
            "mask": {"polygon": [[1, 1], [40, 1], [40, 40]]},
            "trajectory": {"points": [[0.5, 0.5]], "space": "normalized"},
        },
        {"mask": {"box": [50, 5, 80, 30]}, "trajectory": {"points": [[60, 20]], "easing": "ease_in_out"}},
    ],
    "hold_background": True,
    "camera": {"pan": [3, -4], "zoom": 1.2, "roll": 10.0, "easing": "ease_out"},
    "num_frames": 5,
    "num_inference_steps": 4,
    "seed": 7,
    "width": 128,
    "height": 64,
    "min_guidance_scale": 1.0,
    "max_guidance_scale": 3.0,
    "control_scale": 1.0,
    "control_start": 0.0,
    "control_end": 1.0,
    "motion_bucket_id": 100,
    "noise_aug_strength": 0.02,
    "decode_chunk_size": 4,
    "tier": "exact",
    "sampler": "ays",
    "best_of": 1,
    "loop": False,
    "output": {"format": "gif", "fps": 5, "overlay": False, "frames": True},
    "priority": "high",
    "deadline_s": 600,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    made = value.copy()
    made[path[0]] = replaced(value[path[0]], path[1:], new)
    return made


@pytest.fixture(scope="module")
def fuzzed(api: TestClient, servers: Stack) -> TestClient:
    flush(servers.valkey.url)
    empty_bucket(servers)
    with Redis.from_url(servers.valkey.url) as redis:
        doors.announce(redis)
    return api


def test_the_request_is_accepted_as_it_is(fuzzed: TestClient) -> None:
    assert fuzzed.post("/v1/generate", json=RICH).status_code == 202


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(places(RICH)), new=JSON)
def test_no_value_anywhere_is_an_error_of_ours(fuzzed: TestClient, place: tuple[Any, ...], new: Any) -> None:
    body = json.dumps(replaced(RICH, place, new))
    answer = fuzzed.post("/v1/generate", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (202, 400, 422), answer.text
    if answer.status_code == 422:
        assert all(error["pointer"].startswith("/") or not error["pointer"] for error in answer.json()["errors"])

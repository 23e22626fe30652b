"""Keys and their buckets, on a real server."""

from __future__ import annotations

import hmac
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError
from redis import Redis

from jobs.errors import NotFound
from jobs.keys import FORM, Draw, Grant, Keys, Limits, Scope

DAY_S = 24 * 3600
"""Long enough for a bucket not to refill within a test."""


@pytest.fixture
def keys(redis: Redis) -> Keys:
    return Keys(redis)


def writes(redis: Redis) -> int:
    """How many changes the server has made since it started."""
    return int(redis.info("persistence")["rdb_changes_since_last_save"])


def everything(redis: Redis) -> bytes:
    """All that is stored."""
    return b" ".join(redis.dump(name) or b"" for name in redis.scan_iter())


def test_a_key_is_found_by_its_text(keys: Keys) -> None:
    limits = Limits(max_queued=3, max_running=2, requests_per_minute=None, bytes_per_day=10)
    key, text = keys.create(Grant(name="studio", scopes=frozenset({Scope.READ}), limits=limits))
    assert keys.verify(text) == key == keys.get(key.id)
    assert (key.name, set(key.scopes), key.limits) == ("studio", {Scope.READ}, limits)
    assert (key.last_used_at, key.revoked_at) == (None, None)
    assert keys.exist()


def test_the_secret_is_new_each_time_and_kept_nowhere(keys: Keys, redis: Redis) -> None:
    made = [keys.create(Grant(name="n")) for _ in range(3)]
    secrets = {FORM.fullmatch(text)["secret"] for _, text in made}  # type: ignore[index]
    assert len(secrets) == 3
    for secret in secrets:
        assert len(bytes.fromhex(secret)) * 8 == 256
        assert secret.encode() not in everything(redis)
        assert secret not in repr(made[0][0]) + repr(keys) + repr(keys.all())


def test_no_other_text_is_a_key(keys: Keys) -> None:
    (key, text), (_, other) = keys.create(Grant(name="a")), keys.create(Grant(name="b"))
    secret, foreign = text.rpartition("_")[2], other.rpartition("_")[2]
    wrong = [
        "", "da_", key.id, secret, f"da_{key.id}", f"da_{key.id}_", f"da_{key.id}_{foreign}",
        text[:-64] + "0" * 64, f"da_{'0' * 12}_{secret}", text + "0", text[:-1], text.upper(), text + "\n",
        " " + text, f"{text},{other}", text.replace("a", "\u0430", 1), "da_*_" + secret, text + "\0",
    ]  # fmt: skip
    assert [keys.verify(candidate) for candidate in wrong] == [None] * len(wrong)


def test_a_wrong_text_writes_nothing(keys: Keys, redis: Redis) -> None:
    key, text = keys.create(Grant(name="a"))
    before = writes(redis)
    for number in range(200):
        assert keys.verify(f"da_{key.id}_{number:064x}") is None
        assert keys.verify(f"da_{number:012x}_{number:064x}") is None
    assert keys.verify(text)
    assert writes(redis) == before
    keys.revoke(key.id)
    assert writes(redis) > before  # it does count


def test_the_comparison_takes_constant_time(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    key, text = keys.create(Grant(name="a"))
    compared: list[tuple[str, str]] = []

    def compare(given: str, kept: str) -> bool:
        compared.append((given, kept))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert keys.verify(text) is None  # nothing else decides
    assert keys.verify(f"da_{key.id}_{'0' * 64}") is None
    (right, kept), (wrong, _) = compared
    assert right == kept != wrong


def test_a_revoked_key_is_void_at_once_and_for_good(keys: Keys) -> None:
    key, text = keys.create(Grant(name="a"))
    revoked = keys.revoke(key.id)
    assert revoked.revoked_at is not None
    assert keys.verify(text) is None
    assert keys.revoke(key.id) == revoked  # keeps the time
    assert keys.all() == [revoked]
    assert keys.exist()  # so the service stays closed


@pytest.mark.parametrize("key_id", ["0" * 12, "", "*", "x" * 1000])
def test_an_unknown_id_is_named(keys: Keys, key_id: str) -> None:
    for call in (keys.get, keys.revoke):
        with pytest.raises(NotFound) as error:
            call(key_id)
        assert len(error.value.detail) < 100
    assert not keys.exist()


def test_keys_are_listed_in_the_order_of_their_making(keys: Keys) -> None:
    assert keys.all() == []
    made = [keys.create(Grant(name=str(number)))[0] for number in range(3)]
    assert {key.id for key in keys.all()} == {key.id for key in made}
    assert sorted(keys.all(), key=lambda key: key.created_at) == keys.all()


@pytest.mark.parametrize("fields", [{"name": ""}, {"name": "n" * 101}, {"name": "n", "limits": {"max_queued": 0}}])
def test_a_grant_is_checked(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Grant.model_validate(fields)


def test_a_bucket_gives_its_quota_and_no_more(keys: Keys) -> None:
    draws = [Draw("requests", 3, DAY_S, 1)]
    levels = [keys.draw("k", draws)[0] for _ in range(5)]
    assert [(level.taken, level.left) for level in levels] == [
        (True, 2), (True, 1), (True, 0), (False, 0), (False, 0),
    ]  # fmt: skip
    for level in levels:  # a third of the window brings the next one
        assert DAY_S / 3 - 60 < level.wait_s <= DAY_S / 3


def test_a_bucket_refills_evenly(keys: Keys, redis: Redis) -> None:
    draws = [Draw("requests", 3, DAY_S, 1)]
    for _ in range(4):
        keys.draw("k", draws)
    full_at = float(redis.get("da:bucket:k:requests") or 0)
    redis.set("da:bucket:k:requests", full_at - DAY_S * 1000 / 3)  # as if a third of the window had passed
    assert [keys.draw("k", draws)[0].taken for _ in range(2)] == [True, False]


def test_a_full_bucket_takes_no_memory(keys: Keys, redis: Redis) -> None:
    keys.draw("k", [Draw("requests", 10, DAY_S, 1), Draw("bytes", 10, DAY_S, 0)])
    assert redis.keys("da:bucket:*") == [b"da:bucket:k:requests"]
    assert 0 < redis.pttl("da:bucket:k:requests") <= DAY_S * 100  # a tenth of the window brings it back


def test_a_large_cost_is_counted_to_the_unit(keys: Keys) -> None:
    quota = 10 * 2**30
    (first,) = keys.draw("k", [Draw("bytes", quota, DAY_S, quota - 7)])
    assert (first.taken, first.left // 2**20) == (True, 0)  # some bytes come back while this runs
    (second,) = keys.draw("k", [Draw("bytes", quota, DAY_S, quota // 2)])
    assert not second.taken
    assert DAY_S / 2 - 60 < second.wait_s <= DAY_S / 2


def test_behind_a_refusal_nothing_is_drawn(keys: Keys) -> None:
    draws = [Draw("requests", 1, DAY_S, 1), Draw("bytes", 100, DAY_S, 40)]
    assert [level.left for level in keys.draw("k", draws)] == [0, 60]
    assert [level.taken for level in keys.draw("k", draws)] == [False]
    assert keys.draw("k", [Draw("bytes", 100, DAY_S, 0)])[0].left == 60


def test_keys_have_buckets_of_their_own(keys: Keys) -> None:
    draws = [Draw("requests", 1, DAY_S, 1)]
    assert [keys.draw(key_id, draws)[0].taken for key_id in ("a", "a", "b")] == [True, False, True]


def test_a_race_for_a_bucket_has_as_many_winners_as_units(keys: Keys) -> None:
    draws = [Draw("requests", 20, DAY_S, 1)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: keys.draw("k", draws)[0].taken, range(60)))
    assert sum(taken) == 20


def test_the_last_use_is_kept_to_the_minute(keys: Keys, redis: Redis) -> None:
    key, _ = keys.create(Grant(name="a"))
    keys.draw(key.id, [])
    used = keys.get(key.id).last_used_at
    assert used is not None
    before = writes(redis)
    keys.draw(key.id, [])
    assert (keys.get(key.id).last_used_at, writes(redis)) == (used, before)
    redis.hincrby(f"da:key:{key.id}", "last_used_ms", -60_000)
    keys.draw(key.id, [])
    again = keys.get(key.id).last_used_at
    assert again is not None
    assert again >= used


def test_a_use_of_what_is_gone_makes_no_key(keys: Keys, redis: Redis) -> None:
    keys.draw("0" * 12, [Draw("requests", 1, DAY_S, 1)])
    assert redis.keys("da:key*") == []

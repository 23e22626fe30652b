from __future__ import annotations

import numpy as np
import pytest

from jobs.spec import MAX_VIDEO_FRAMES
from tests.unit.worker.test_encode import FORMATS, decoded, smooth
from worker.decode import decode
from worker.encode import Format, encode, frames_zip, poster


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("still", [False, True])
def test_videos_come_back_as_others_decode_them(form: Format, still: bool) -> None:
    frames = smooth(1).repeat(4, axis=0) if still else smooth(4)
    data = encode(frames, form, 7)
    assert np.array_equal(decode(data, (128, 64)), decoded(data, form))


def test_frames_come_back_exactly() -> None:
    frames = smooth(12)
    assert np.array_equal(decode(frames_zip(frames), (128, 64)), frames)


def test_what_is_no_video_of_ours_is_refused() -> None:
    good = encode(smooth(2), "mp4", 7)
    long = frames_zip(smooth(1, 2, 2).repeat(MAX_VIDEO_FRAMES + 1, axis=0))
    playlist = b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n"
    for data, size in (
        (good, (64, 128)),
        (good[: len(good) // 2], (128, 64)),
        (poster(smooth(1)[0]), (128, 64)),
        (playlist, (128, 64)),
        (b"PK", (128, 64)),
        (b"", (128, 64)),
        (long, (2, 2)),
    ):
        with pytest.raises(ValueError, match="the video"):
            decode(data, size)

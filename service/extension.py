"""``extends``: a video that goes on where an earlier one ends."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from jobs.errors import FieldError, InvalidRequest, NotFound
from jobs.models import ModelCard
from jobs.spec import MAX_VIDEO_FRAMES, EntityRequest, GenerateRequest, ImageSource, JobSpec, MaskSource
from jobs.state import ENDING_FRAME, Artifact, Record, Result, Status
from jobs.storage import Storage
from service.auth import Caller
from service.bounds import refuse
from service.replay_inputs import holds_background
from service.state import Doors

_ID = re.compile("[0-9a-f]{32}")
_GONE = "The video of that job, or its last frame, is not stored any more; it can not be extended."


@dataclass(frozen=True)
class Earlier:
    """The job that a request extends."""

    result: Result
    labels: list[str]
    masks: list[bytes | None]
    """PNG files, by entity as the labels; None for one that is not seen in the last frame."""
    frame: bytes
    storage: Storage

    def begin(self, request: GenerateRequest, card: ModelCard) -> GenerateRequest:
        """The request with the last frame as its image, and with the labels and masks of the entities there.

        Raises:
            InvalidRequest: with one entry for each field that is wrong.
        """
        refuse([*self._unfit(request, card)])
        entities: list[EntityRequest] = []
        errors: list[FieldError] = []
        for index, entity in enumerate(request.entities):
            try:
                entities.append(self._find(entity, index))
            except InvalidRequest as error:
                errors += error.errors
        refuse(errors)
        changes = {
            "image": ImageSource(base64=_text(self.frame)),
            "entities": entities,
            "width": self.result.width,
            "height": self.result.height,
            "output": request.output.model_copy(update={"fps": self.result.fps}),
        }
        return request.model_copy(update=changes)

    def video(self) -> tuple[bytes, str]:
        """The earlier frames without loss where they were kept, else the video; and the media type.

        Raises:
            InvalidRequest: the file is gone.
        """
        artifact = self.result.artifacts.get("frames", self.result.artifacts["video"])
        return _read(artifact, self.storage), artifact.media_type

    def _unfit(self, request: GenerateRequest, card: ModelCard) -> Iterator[FieldError]:
        for pointer, asked, has in (
            ("/width", request.width, self.result.width),
            ("/height", request.height, self.result.height),
            ("/output/fps", request.output.fps, self.result.fps),
        ):
            if asked not in (None, has):
                yield FieldError(pointer, f"The video that this one extends has {has}; leave it out.")
        num_frames = request.num_frames or card.num_frames
        if num_frames < 2:
            yield FieldError("/num_frames", "The first frame is the last one of the earlier video: ask for 2.")
        if self.result.num_frames + num_frames - 1 > MAX_VIDEO_FRAMES:
            most = f"The whole video may have {MAX_VIDEO_FRAMES} frames"
            yield FieldError("/extends", f"{most}, and that job's video has {self.result.num_frames} already.")

    def _find(self, entity: EntityRequest, index: int) -> EntityRequest:
        """An entity with its mask: that of its label or, where it has none, of its place."""
        if entity.mask is not None:
            return entity
        place = index
        if entity.label is not None:
            if entity.label not in self.labels:
                known = ", ".join(map(repr, self.labels))
                detail = f"The earlier job has no such entity but {known}; name one of them or give a mask."
                raise InvalidRequest.at(f"/entities/{index}/label", detail)
            place = self.labels.index(entity.label)
        mask = self.masks[place] if place < len(self.masks) else None
        if mask is None:
            detail = "It was not found in the last frame of the earlier video; give a mask of that frame."
            if place >= len(self.masks):
                detail = f"The earlier job has {len(self.masks)} entities; give a mask of the last frame."
            raise InvalidRequest.at(f"/entities/{index}/mask", detail)
        changes = {"label": self.labels[place], "mask": MaskSource(base64=_text(mask))}
        return entity.model_copy(update=changes)


def find_earlier(request: GenerateRequest, sender: Caller, services: Doors) -> Earlier | None:
    """What a request extends; None where it stands for itself.

    Raises:
        InvalidRequest: it can not extend that.
    """
    if request.extends is None:
        return None
    record = _find(request.extends, sender, services)
    if record.status is not Status.SUCCEEDED or record.result is None:
        raise InvalidRequest.at("/extends", f"Only a job that succeeded can be extended; it is {record.status}.")
    if "ending" not in record.result.artifacts:
        raise InvalidRequest.at("/extends", _GONE)
    try:
        spec = JobSpec.model_validate(record.spec)
    except ValidationError:  # another version wrote it
        raise InvalidRequest.at("/extends", _GONE) from None
    with zipfile.ZipFile(io.BytesIO(_read(record.result.artifacts["ending"], services.storage))) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    first = int(holds_background(spec))
    labels = [track.label for track in spec.entities]
    masks = [files.get(f"{index}.png") for index in range(len(labels))]
    return Earlier(record.result, labels[first:], masks[first:], files[ENDING_FRAME], services.storage)


def _find(job_id: str, sender: Caller, services: Doors) -> Record:
    with suppress(NotFound):
        if _ID.fullmatch(job_id):
            return services.store.get(job_id, sender.owner)
    raise InvalidRequest.at("/extends", "There is no such finished job of yours.")


def _read(artifact: Artifact, storage: Storage) -> bytes:
    try:
        return storage.get(artifact.key)
    except NotFound:
        raise InvalidRequest.at("/extends", _GONE) from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

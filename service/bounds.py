"""What a request may ask of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobs.errors import FieldError, InvalidRequest
from jobs.models import ModelCard, snap
from jobs.spec import GenerateRequest


def refuse(errors: Sequence[FieldError]) -> None:
    """Raise InvalidRequest where there is anything wrong."""
    if errors:
        raise InvalidRequest(" ".join(error.detail for error in errors), errors=tuple(errors))


def tiered(request: GenerateRequest, card: ModelCard) -> GenerateRequest:
    """The request with what its tier means: ``fast`` takes few steps, at noise levels that were chosen for few
    ("Align Your Steps"), unless the request says otherwise."""
    if request.tier != "fast":
        return request
    sampler = request.sampler if "sampler" in request.model_fields_set else "ays"
    steps = request.num_inference_steps or card.fast_num_inference_steps
    return request.model_copy(update={"sampler": sampler, "num_inference_steps": steps})


def beyond_limits(request: GenerateRequest, card: ModelCard) -> Iterator[FieldError]:
    """What a request asks for and the model does not do."""
    for pointer, value, limit in (
        ("/num_frames", request.num_frames, card.max_frames),
        ("/num_inference_steps", request.num_inference_steps, card.max_inference_steps),
    ):
        if value is not None and value > limit:
            yield FieldError(pointer, f"The model {card.name!r} allows at most {limit}.")
    for name, offered in (("sampler", card.samplers), ("tier", card.tiers)):
        if getattr(request, name) not in offered:
            yield FieldError(f"/{name}", f"The model {card.name!r} offers {', '.join(offered)}.")
    num_frames = request.num_frames or card.num_frames
    for index, entity in enumerate(request.entities):
        for name in ("start_frame", "end_frame"):
            frame = getattr(entity.trajectory, name)
            if frame is not None and frame >= num_frames:
                pointer = f"/entities/{index}/trajectory/{name}"
                yield FieldError(pointer, f"The video has {num_frames} frames, 0 to {num_frames - 1}.")


def output_size(request: GenerateRequest, card: ModelCard, size: tuple[int, int]) -> tuple[int, int]:
    """What was asked for; what was left open follows the image's aspect ratio."""
    width, height = request.width, request.height
    if width is None and height is None:
        return card.fit(*size)
    ratio = size[0] / size[1]
    output = (width or snap((height or 0) * ratio), height or snap((width or 0) / ratio))
    if output[0] * output[1] > card.max_pixels:
        pointer = "/height" if width is None else "/width"
        detail = f"The model {card.name!r} allows at most {card.max_pixels} pixels per frame, not {output[0]} x"
        raise InvalidRequest.at(pointer, f"{detail} {output[1]}.")
    return output

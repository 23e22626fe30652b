"""DragAnything: a picture, masks and points in; frames out. Importing it loads no torch; using it does."""

from typing import TYPE_CHECKING, Any

from model.conditioning import Entity

if TYPE_CHECKING:
    from model.pipeline import Conditions, DragAnythingPipeline, Output

__all__ = ["Conditions", "DragAnythingPipeline", "Entity", "Output"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model import pipeline

    return getattr(pipeline, name)

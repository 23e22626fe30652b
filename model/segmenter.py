"""The optional segmenter: clicks or a box in, a mask out, by SAM 2."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

# ImageNet's statistics of RGB in 0..1, which SAM 2 was trained with
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


class Segmenter:
    """A `transformers.Sam2Model` on one device."""

    def __init__(self, network: Any, device: torch.device) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image,
        points: Sequence[tuple[float, float]] = (),
        labels: Sequence[int] = (),
        box: tuple[float, float, float, float] | None = None,
    ) -> tuple[NDArray[np.uint8], float]:
        """Segment what the clicks (x, y; label 1 inside, 0 outside) and the box (x0, y0, x1, y1) mean.

        Coordinates are pixels of the image. Of SAM's three proposals the one that it rates best is returned: uint8
        [OH, OW] of zeros and ones, and its rating, an estimate of the IoU in 0..1. Raises ValueError without a
        click and a box, or where clicks and labels differ in number.
        """
        if not points and box is None:
            raise ValueError("give at least one point or a box")
        if len(points) != len(labels):
            raise ValueError(f"{len(points)} points need as many labels, not {len(labels)}")
        side = self.network.config.prompt_encoder_config.image_size
        scale = torch.tensor([side / image.width, side / image.height])
        prompt: dict[str, Tensor] = {}
        if points:
            prompt["input_points"] = (torch.tensor(points) * scale)[None, None].to(self.device)  # [1, 1, N, 2]
            prompt["input_labels"] = torch.tensor(labels)[None, None].to(self.device)  # [1, 1, N]
        if box is not None:
            prompt["input_boxes"] = (torch.tensor(box) * scale.repeat(2))[None, None].to(self.device)  # [1, 1, 4]
        proposed = self.network(pixel_values=self._pixels(image, side), **prompt)
        best = int(proposed.iou_scores[0, 0].argmax())
        logits = proposed.pred_masks[:, 0, best : best + 1]  # [1, 1, side/4, side/4]
        full = functional.interpolate(logits, (image.height, image.width), mode="bilinear", align_corners=False)
        mask = (full[0, 0] > 0).to(torch.uint8).cpu().numpy()
        return mask, float(proposed.iou_scores[0, 0, best])

    def _pixels(self, image: Image.Image, side: int) -> Tensor:
        """[1, 3, side, side], squeezed to a square as SAM 2 wants it."""
        square = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(square.copy()).to(self.device).permute(2, 0, 1).float() / 255
        mean, deviation = (torch.tensor(x, device=self.device)[:, None, None] for x in (MEAN, DEVIATION))
        return ((pixels - mean) / deviation)[None]

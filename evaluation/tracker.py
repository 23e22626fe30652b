"""Finding a sprite in a frame by its appearance, where truth and background are known exactly.

Two measures. `explain`: where does the sprite explain the frame better than the background does (the sum over its
pixels of the background's squared error minus the sprite's)? All are blurred, so a blob of about the right colour
is enough. `match`: where is the sprite's mean squared RGB error smallest? Only the sprite as itself will do.

The truth scores 0, behind the blur at times next to it. A video in which nothing moves scores the distance from
the first point, as the first frame's sprite and background are candidates too. Half of the sprite must be in the
frame: what is gone is found somewhere in it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LEAST_COVER = 0.5  # of a template must lie inside the frame
BLUR = 0.25  # of the radius of a disc as large as the template: its texture goes, its colours and place stay
HALO = 0.02  # a blurred sprite reaches as far as this share of it does


@dataclass(frozen=True, eq=False)
class Template:
    """A sprite as it looks in one frame of the truth."""

    colours: Tensor  # [3, H, W], the frame that it is seen in, 0..1
    mask: Tensor  # float32 [H, W], 1 where only the sprite is seen
    point: Tensor  # [2], (x, y) of its track there


def explain(frame: Tensor, backgrounds: Tensor, templates: list[Template]) -> Tensor:
    """Point (x, y) at which a template explains most of frame [3, H, W] that no background [N, 3, H, W] does."""
    deviation = BLUR * float(max(template.mask.sum() for template in templates) / torch.pi) ** 0.5
    seen, *plates = blur(torch.stack([frame, *backgrounds]), deviation)
    unexplained = ((seen - torch.stack(plates)) ** 2).sum(dim=1).amin(dim=0)  # [H, W]
    gains = []
    for sharp in templates:
        mask = (blur(sharp.mask[None, None], deviation)[0, 0] > HALO).float()
        template = Template(blur(sharp.colours[None], deviation)[0], mask, sharp.point)
        gain = _correlate(mask, unexplained) - _errors(seen, template)[0]
        gains.append(torch.where(_inside(_errors(seen, sharp)[1], sharp), gain, -torch.inf))
    return _best(gains, templates)


def match(frame: Tensor, templates: list[Template]) -> Tensor:
    """Point (x, y) at which a template's mean squared error in frame [3, H, W] is smallest."""
    scores = []
    for template in templates:
        error, cover = _errors(frame, template)
        scores.append(torch.where(_inside(cover, template), -error / cover.clamp(min=1), -torch.inf))
    return _best(scores, templates)


def blur(frames: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of frames [N, C, H, W], pixels; the border goes on as it is."""
    reach = max(1, round(3 * deviation))
    offsets = torch.arange(-reach, reach + 1, dtype=frames.dtype)
    kernel = torch.exp(-0.5 * (offsets / max(deviation, 1e-3)) ** 2)
    kernel = (kernel / kernel.sum()).expand(frames.shape[1], 1, 1, -1)
    padded = F.pad(frames, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel, groups=frames.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=frames.shape[1])


def _inside(cover: Tensor, template: Template) -> Tensor:
    return cover >= LEAST_COVER * template.mask.sum()


def _errors(frame: Tensor, template: Template) -> tuple[Tensor, Tensor]:
    """Squared error and covered pixels of a template at every shift, [2H, 2W] each; negative ones wrap around."""
    mask, colours = template.mask, template.colours
    inside = torch.ones_like(mask)
    error = _correlate(mask, (frame**2).sum(dim=0)) + _correlate(mask * (colours**2).sum(dim=0), inside)
    for c in range(3):
        error = error - 2 * _correlate(mask * colours[c], frame[c])
    return error.clamp(min=0), _correlate(mask, inside)


def _correlate(pattern: Tensor, field: Tensor) -> Tensor:
    """Sum over x of pattern(x) field(x + shift), zero outside: [2H, 2W] by shift modulo that."""
    size = (2 * field.shape[0], 2 * field.shape[1])
    product = torch.fft.rfft2(pattern.double(), size).conj() * torch.fft.rfft2(field.double(), size)
    shifted: Tensor = torch.fft.irfft2(product, size)
    return shifted


def _best(scores: list[Tensor], templates: list[Template]) -> Tensor:
    """The best shift of the best template, added to its point; ties go to the smaller shift."""
    height, width = (n // 2 for n in scores[0].shape)
    rows, columns = (torch.fft.fftfreq(2 * n, 1 / (2 * n)).to(scores[0].device) for n in (height, width))
    length = rows[:, None] ** 2 + columns**2
    values = [score - 1e-9 * length for score in scores]
    best = max(range(len(values)), key=lambda i: float(values[i].max()))
    row, column = divmod(int(values[best].argmax()), 2 * width)
    return templates[best].point + torch.stack([columns[column], rows[row]]).to(templates[best].point)

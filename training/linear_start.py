"""A VAE that starts as a linear autoencoder, so that training improves on a picture instead of searching for one.

The bare path of the VAE (its convolutions without residual branches, norms and SiLU) is a small linear network:
`LinearPath`. It is fitted first, by principal components and least squares, then by a few hundred steps of Adam;
`install` writes it into the VAE such that the VAE computes the same. Residual branches end in zeros. The last norm
and SiLU pass values on: a pair of large constant channels fixes the norm's deviation, and every value comes twice,
with both signs, since silu(x) - silu(-x) = x.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.data.seeds import Draw

PILOT = 64.0  # the constant channels, in deviations of the values beside them
LOG_VARIANCE = -6.0  # of the latents at first
RIDGE = 1e-3
ROWS = 20_000  # samples that a least-squares fit uses
BATCH = 32
WARMUP = 40  # steps


class Widths(NamedTuple):
    """Channels of the path, at full, half, quarter and eighth resolution."""

    down: tuple[int, int, int, int]
    up: tuple[int, int, int, int]  # from an eighth to full
    latent: int


def widths_of(vae: Any) -> Widths:
    """What fits into a VAE; its last values come twice and leave two channels for the constant.

    Raises ValueError where nothing does.
    """
    if vae.config.norm_num_groups != 1:
        raise ValueError("a linear start wants norm_num_groups 1: the constant rules its own group alone")
    c0, c1, c2, c3 = vae.config.block_out_channels
    last_down, last_up = (min(c2, c3) - 2) // 2, (min(c0, c1) - 2) // 2
    latent = vae.config.latent_channels
    if last_down < latent:
        raise ValueError(f"a linear start wants {2 * latent + 2} channels in the last blocks, not {min(c2, c3)}")
    down = (min(12, c0), min(28, c0), min(32, c1), min(24, last_down))
    return Widths(down, (c3, c2, min(c1, c2), last_up), latent)


class LinearPath(nn.Module):
    """Convolutions alone: down three times by stride 2, up three times by nearest neighbour."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        down, up, latent = widths
        self.enter = nn.Conv2d(3, down[0], 3, padding=1)
        self.down: Any = nn.ModuleList(nn.Conv2d(down[i], down[i + 1], 3, stride=2) for i in range(3))
        self.code = nn.Conv2d(down[3], latent, 3, padding=1)
        self.start = nn.Conv2d(latent, up[0], 3, padding=1)
        self.up: Any = nn.ModuleList(nn.Conv2d(up[i], up[i + 1], 3, padding=1) for i in range(3))
        self.leave = nn.Conv2d(up[3], 3, 3, padding=1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def encode(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] in -1..1 to [N, C, H/8, W/8]."""
        x = self.enter(pixels)
        for conv in self.down:
            x = conv(F.pad(x, (0, 1, 0, 1)))  # as diffusers pads
        code: Tensor = self.code(x)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """[N, C, h, w] to [N, 3, 8h, 8w]."""
        x = self.start(code)
        for conv in self.up:
            x = conv(F.interpolate(x, scale_factor=2.0))
        pixels: Tensor = self.leave(x)
        return pixels


def fit(pixels: Tensor, widths: Widths, steps: int, source: torch.Generator, lr: float = 3e-3) -> LinearPath:
    """Fit a path to pictures [N, 3, H, W] in -1..1: principal components, least squares, then `steps` of Adam."""
    path = LinearPath(widths).to(pixels.device)
    with torch.no_grad():
        _solve(path, pixels, Draw(source))
    optimizer = torch.optim.Adam(path.parameters(), lr=lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min((i + 1) / WARMUP, 1 - i / steps))
    for _ in range(steps):
        chosen = pixels[Draw(source).integer((BATCH,), len(pixels))]
        optimizer.zero_grad()
        F.mse_loss(path.decode(path.encode(chosen)), chosen).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        _standardise(path, pixels)
    return path.requires_grad_(False)


def _solve(path: LinearPath, pixels: Tensor, draw: Draw) -> None:
    """Down by principal components of 2 x 2 blocks; up by regression on what was there on the way down."""
    _keep(path.enter, 3)
    levels = [path.enter(pixels)]
    for conv in path.down:
        blocks = F.pixel_unshuffle(levels[-1], 2)  # [N, 4 c, h, w], channel first, then row, then column
        basis = _components(blocks, conv.out_channels)
        conv.weight[:, :, :2, :2] = basis.T.reshape(-1, conv.in_channels, 2, 2)
        levels.append(conv(F.pad(levels[-1], (0, 1, 0, 1))))
    path.code.weight[:, :, 1, 1] = _components(levels[-1], path.code.out_channels).T
    code = path.code(levels[-1])
    path.start.weight[: levels[-1].shape[1]] = _regress(code, levels[-1], draw)[: path.start.out_channels]
    x = path.start(code)
    targets = [*levels[2:0:-1], pixels]
    for conv, target in zip(path.up, targets, strict=True):
        x = F.interpolate(x, scale_factor=2.0)
        found = _regress(x, target, draw)[: conv.out_channels]
        conv.weight[: len(found)] = found
        x = conv(x)
    _keep(path.leave, 3)
    for conv in (path.enter, *path.down, path.code, path.start, *path.up, path.leave):
        unused = conv.weight.flatten(1).abs().sum(dim=1) == 0
        conv.weight[unused] = 0.02 * draw.normal(conv.weight[unused].shape)


def _keep(conv: nn.Conv2d, count: int) -> None:
    for channel in range(count):
        conv.weight[channel, channel, 1, 1] = 1


def _components(x: Tensor, count: int) -> Tensor:
    """Orthonormal principal components of channels [N, c, h, w]: [c, count], zero beyond the first c."""
    flat = x.transpose(0, 1).flatten(1).double()
    _, vectors = torch.linalg.eigh(flat @ flat.T)
    return F.pad(vectors.flip(1)[:, :count], (0, max(0, count - len(flat)))).float()


def _regress(x: Tensor, target: Tensor, draw: Draw) -> Tensor:
    """The 3 x 3 convolution [o, c, 3, 3] that takes x [N, c, h, w] closest to target [N, o, h, w]."""
    per_picture = max(1, ROWS // len(x))
    place = draw.integer((per_picture,), target.shape[2] * target.shape[3])
    rows = torch.cat([F.unfold(one[None], 3, padding=1)[0][:, place].T for one in x]).double()
    wanted = target.flatten(2)[:, :, place].transpose(1, 2).flatten(0, 1).double()
    gram = rows.T @ rows / len(rows)
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=x.device)
    solution: Tensor = torch.linalg.solve(gram, rows.T @ wanted / len(rows))
    return solution.T.reshape(-1, x.shape[1], 3, 3).float()


def _standardise(path: LinearPath, pixels: Tensor) -> None:
    """Give every latent channel zero mean and unit deviation; the decoder sees what it saw before, inside."""
    code = path.encode(pixels)
    mean, deviation = code.mean(dim=(0, 2, 3)), code.std(dim=(0, 2, 3)).clamp(min=1e-6)
    path.code.weight /= deviation[:, None, None, None]
    path.code.bias.sub_(mean).div_(deviation)  # type: ignore[union-attr]
    path.start.bias += (path.start.weight.sum(dim=(2, 3)) * mean).sum(dim=1)  # type: ignore[operator]
    path.start.weight *= deviation[:, None, None]


@torch.no_grad()
def install(path: LinearPath, vae: Any, pixels: Tensor) -> None:
    """Write a path into a VAE of its widths; `pixels` [N, 3, H, W] tell how large its values are."""
    _silence(vae)
    _install_encoder(path, vae)
    _install_decoder(path, vae)
    hold(vae.encoder.conv_norm_out, vae.encoder.mid_block.resnets[-1].conv2, 1.0, lambda: vae.encoder(pixels))
    last = vae.decoder.up_blocks[-1].resnets[-1]
    share = float(torch.sigmoid(last.time_mixer.mix_factor))
    code = vae.encode(pixels).latent_dist.mode()
    indicator = torch.zeros(len(code), 1, device=code.device)
    hold(vae.decoder.conv_norm_out, last.temporal_res_block.conv2, share, lambda: vae.decoder(code, indicator, 1))


def _silence(vae: Any) -> None:
    """Let every residual branch, and every convolution over time, begin as nothing at all."""
    for name, module in vae.named_modules():
        ends_branch = name.endswith((".conv2", ".to_out.0"))
        if ends_branch:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    out = vae.decoder.time_conv_out
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    out.weight[range(3), range(3), 1] = 1


def _install_encoder(path: LinearPath, vae: Any) -> None:
    encoder = vae.encoder
    _write(encoder.conv_in, path.enter)
    blocks = list(encoder.down_blocks)
    for i, conv in enumerate(path.down):
        _carry(blocks[i].resnets, path.down[i].in_channels)
        _write(blocks[i].downsamplers[0].conv, conv, pairs=i == len(path.down) - 1)
    _carry(blocks[-1].resnets, 2 * path.code.in_channels)
    latent = path.code.out_channels
    _write_last(encoder.conv_out, path.code, latent)
    quant = vae.quant_conv
    nn.init.zeros_(quant.weight)
    nn.init.zeros_(quant.bias)
    quant.weight[range(latent), range(latent)] = 1
    quant.bias[latent:] = LOG_VARIANCE


def _install_decoder(path: LinearPath, vae: Any) -> None:
    decoder = vae.decoder
    _write(decoder.conv_in, path.start)
    blocks = list(decoder.up_blocks)
    for i, conv in enumerate(path.up):
        _carry([r.spatial_res_block for r in blocks[i].resnets], conv.in_channels)
        _write(blocks[i].upsamplers[0].conv, conv, pairs=i == len(path.up) - 1)
    _carry([r.spatial_res_block for r in blocks[-1].resnets], 2 * path.leave.in_channels)
    _write_last(decoder.conv_out, path.leave, 3)


def _write(conv: Any, values: nn.Conv2d, *, pairs: bool = False) -> None:
    """The first output channels compute `values` (then its negative); the others keep what they are."""
    weight, bias = values.weight, values.bias
    assert bias is not None
    if pairs:
        weight, bias = torch.cat([weight, -weight]), torch.cat([bias, -bias])
    count, inputs = weight.shape[:2]
    conv.weight[:count] = 0
    conv.weight[:count, :inputs] = weight
    conv.bias[:count] = bias


def _write_last(conv: Any, values: nn.Conv2d, count: int) -> None:
    """The output convolution: of each pair, the difference."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    width = values.in_channels
    conv.weight[:count, :width] = values.weight
    conv.weight[:count, width : 2 * width] = -values.weight
    conv.bias[:count] = values.bias


def _carry(resnets: Any, count: int) -> None:
    """Let shortcuts hand the first channels on."""
    for resnet in resnets:
        if resnet.conv_shortcut is not None:
            conv = resnet.conv_shortcut
            conv.weight[:count] = 0
            conv.weight[range(count), range(count)] = 1
            conv.bias[:count] = 0


def hold(norm: Any, before: Any, share: float, run: Any) -> None:
    """Make a norm pass values on as they are; `run` calls the network that it is in.

    The bias of `before`, the end of the last residual branch, which enters with `share`, holds the last two
    channels of each group at a large constant of either sign. They fix the deviation, are not seen behind it,
    and leave the mean at 0.
    """
    found: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
    groups = norm.num_groups
    bias, weight = before.bias.view(groups, -1), norm.weight.view(groups, -1)
    try:
        run()
        level = PILOT * float(found[0].square().mean().sqrt())
        bias[:, -2:] = bias.new_tensor([level, -level]) / share
        run()
    finally:
        handle.remove()
    values = found[1].reshape(len(found[1]), groups, -1)
    weight[:] = values.var(dim=2, correction=0).sqrt().mean(dim=0)[:, None]
    weight[:, -2:] = 0
    nn.init.zeros_(norm.bias)

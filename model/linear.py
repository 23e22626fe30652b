"""Linear layers and what follows them in one pass over memory, where oneDNN computes them (on processors)."""

import platform

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# tried on nothing else
_ON_X86: bool = platform.machine() == "x86_64" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def fused(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., I] @ weight [O, I].T + bias [O]: [..., O]."""
    if _fuses(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


def fused_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU of `fused`, by the error function."""
    if _fuses(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")  # type: ignore[no-any-return]
    return F.gelu(F.linear(x, weight, bias))


def fused_times(x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """`fused` times `other` [..., O]; may overwrite `other`."""
    if _fuses(x):
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, "mul")  # type: ignore[no-any-return]
    return other.mul_(F.linear(x, weight, bias))


def fused_plus(x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """`fused` plus `other` [..., O]."""
    if _fuses(x):
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, "add")  # type: ignore[no-any-return]
    return F.linear(x, weight, bias).add_(other)


def _fuses(x: Tensor) -> bool:  # in bfloat16 it was no faster
    return x.device.type == "cpu" and x.dtype == torch.float32 and _ON_X86

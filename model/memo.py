"""What a network made of the last few inputs: jobs on the same picture with the same draws share it, exactly."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Memo:
    """Keeps the last `size` results on their device, by the content of the inputs and the state of the weights."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, net: nn.Module, inputs: tuple[Tensor, ...], compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` returns for `inputs` to `net`, which nobody may change in place."""
        key = _key(net, inputs)
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = compute()
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._size:
                self._results.popitem(last=False)
        return result

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._results.clear()


def _key(net: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    versions = [(id(p), p._version) for p in net.parameters()]  # each change in place counts a version up
    digest = hashlib.sha256(repr((id(net), versions)).encode())
    for tensor in inputs:
        digest.update(repr((tensor.shape, tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""Freed memory that the process keeps: counted in page faults, in processes of their own."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from model.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):  # the heap grows a little before it is large enough
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(1 << 24).add_(1)  # 64 MB, which glibc maps anew each time
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_a_tensor_is_made_where_the_last_one_was() -> None:
    assert faults("keep") * 8 < faults("leave")

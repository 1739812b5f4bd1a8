"""Freed memory kept for the next step, in a process of its own because it cannot be taken back."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, torch
from zeroshot.training.memory import keep_freed_memory

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(4096, 4096)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

handed_back = count_faults()
assert keep_freed_memory()
count_faults()  # takes from the system what is kept from now on
print(handed_back, count_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_pages_are_not_asked_for_again() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    handed_back, kept = map(int, done.stdout.split())
    assert handed_back > 100 and kept < handed_back / 10, "page faults before and after"

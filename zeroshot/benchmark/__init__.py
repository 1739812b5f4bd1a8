"""The same recipe for several architectures and seeds, measured in one way."""

from .commands import benchmark_command

__all__ = ["benchmark_command"]

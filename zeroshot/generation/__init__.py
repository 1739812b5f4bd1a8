"""Rows written by a language model: label pool, plan, prompts, checked answers, resume, data card."""

from .arguments import GenerationArguments, parse_arguments
from .commands import describe_plan, generate

__all__ = ["GenerationArguments", "describe_plan", "generate", "parse_arguments"]

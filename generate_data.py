"""Let a language model write labelled rows: python generate_data.py CONFIG.yaml [--key value ...]."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from zeroshot.console import run_command

PACKAGES = ("openai", "pydantic", "dotenv", "py3langid", "datasketch", "jinja2")  # of the extra; training needs none of them


def main(arguments: Sequence[str]) -> None:
    """Parse, generate, report; or only show what would be asked."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        sys.exit(
            f"ImportError: Expected the packages that write data, found no {', '.join(missing)}. "
            'Install the extra: pip install "zeroshot[data]".'
        )
    from zeroshot.generation import describe_plan, generate, parse_arguments

    parsed = parse_arguments(arguments)
    sys.stdout.write((describe_plan if parsed.dry_run else generate)(parsed) + "\n")


if __name__ == "__main__":
    run_command(main, sys.argv[1:])

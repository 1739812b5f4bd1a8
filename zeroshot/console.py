"""What every command does around its work: log lines on standard error, errors without a traceback."""

import argparse
import difflib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import datasets
from transformers.utils import logging as transformers_logging


class CommandParser(argparse.ArgumentParser):
    """A parser that names the nearest option instead of one it does not have, and shows the usage of the verb itself."""

    def __init__(self, prog: str | None = None, **kwargs: Any):
        super().__init__(prog, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        """Parse; what is left over is an error here, since the parser of a verb is asked for nothing else."""
        words = sys.argv[1:] if args is None else list(args)
        if self._subparsers is None:
            self._check_options(words)
        namespace, rest = super().parse_known_args(words, namespace)
        if rest:
            self._refuse(rest[0])
        return namespace, rest

    def _check_options(self, words: Sequence[str]) -> None:
        """Refuse unknown options before argparse misses the one that was meant."""
        for word in words:
            name = word.partition("=")[0]
            action = self._option_string_actions.get(name)
            if word == "--" or (action is not None and action.nargs == argparse.REMAINDER):
                return
            if name.startswith("--") and action is None and " " not in word:  # with a space it is a text
                self._refuse(name)

    def _refuse(self, word: str) -> NoReturn:
        known = [name for name, action in self._option_string_actions.items() if action.help != argparse.SUPPRESS]
        near = difflib.get_close_matches(word, known, n=1) if word.startswith("-") else []
        mend = f"Did you mean {near[0]}?" if near else f"{self.prog} --help lists what there is."
        self.error(f"Expected what {self.prog} takes, found {word!r}. {mend}")


def _tell(error: Exception) -> str:
    """What an error says; of one of the operating system's, which only names a file, also what to look at."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is None:
        return str(error)
    return (
        f"Expected to read or write {str(error.filename)!r}, found: {error.strerror}. Check the path, its permissions and "
        "the space on the disk."
    )


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run a command; an error that tells its reader what to mend ends it with status 1 and that text alone.

    Standard output is UTF-8 whatever the terminal is; without a terminal there are no progress bars of short steps.
    `ZEROSHOT_TRACEBACK=1` shows where an error arose, `TRANSFORMERS_VERBOSITY=debug` what other packages say, too.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    logging.getLogger("zeroshot").setLevel(min(logging.INFO, transformers_logging.get_verbosity()))
    if not sys.stderr.isatty():  # bars of steps that take a second would fill a log file
        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has what it wanted, as in `zeroshot predict ... | head -1`; Python would complain when it flushes.
        sys.stdout = None
        sys.exit(1)
    except (ValueError, TypeError, OSError, ImportError) as error:
        ours = not (isinstance(error, ImportError) and error.name)  # a failed import names its module, our words do not
        if os.environ.get("ZEROSHOT_TRACEBACK") or not ours:
            raise
        sys.exit(f"{type(error).__name__}: {_tell(error)}")
    except KeyboardInterrupt:
        sys.exit(
            "Interrupted. Training, generation and prediction from file to file go on where they stopped when the same "
            "command is given again; all else begins anew."
        )

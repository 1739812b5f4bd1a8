"""How commands end: errors for the user without a traceback, mistakes of ours with one."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers.utils import logging as transformers_logging

from zeroshot.console import run_command


def raise_error(error: BaseException):
    def command(_arguments: Sequence[str]) -> None:
        raise error

    return command


@pytest.mark.parametrize("error", [ValueError, TypeError, FileNotFoundError, ConnectionError, ImportError])
def test_errors_for_the_user_end_with_status_1_and_their_text(error: type[Exception]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(raise_error(error("mend it")), [])
    assert caught.value.code == f"{error.__name__}: mend it"


@pytest.mark.parametrize(
    "error", [RuntimeError("ours"), KeyError("ours"), AssertionError("ours"), ImportError("ours", name="torch")]
)
def test_mistakes_of_ours_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        run_command(raise_error(error), [])


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSHOT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="mend it"):
        run_command(raise_error(ValueError("mend it")), [])


def test_an_error_of_the_operating_system_is_told_with_what_to_look_at(tmp_path: Path) -> None:
    def command(_arguments: Sequence[str]) -> None:
        (tmp_path / "none" / "file").touch()

    with pytest.raises(SystemExit) as caught:
        run_command(command, [])
    assert caught.value.code == (
        f"FileNotFoundError: Expected to read or write {str(tmp_path / 'none' / 'file')!r}, found: No such file or "
        "directory. Check the path, its permissions and the space on the disk."
    )


def test_an_interruption_is_no_error() -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(raise_error(KeyboardInterrupt()), [])
    assert str(caught.value.code).startswith("Interrupted.")


def test_a_closed_pipe_ends_quietly() -> None:
    """`zeroshot predict ... | head -1` is no error."""
    with pytest.raises(SystemExit) as caught:
        run_command(raise_error(BrokenPipeError(32, "Broken pipe")), [])
    assert not isinstance(caught.value.code, str)


def test_arguments_arrive() -> None:
    seen: list[Sequence[str]] = []
    run_command(seen.append, ["--a", "b"])
    assert seen == [["--a", "b"]]


def test_our_log_lines_are_shown(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    run_command(lambda _arguments: logging.getLogger("zeroshot.x").info("chosen by itself"), [])
    assert "chosen by itself" in caplog.messages
    assert capsys.readouterr().out == ""


def test_lines_of_transformers_are_shown_once_and_as_ours() -> None:
    """They go through our handler; their own would print a second copy without our format."""
    transformers_logging.disable_propagation()
    transformers_logging.enable_default_handler()
    run_command(lambda _arguments: None, [])
    logger = logging.getLogger("transformers")
    assert logger.propagate
    assert not [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]


def test_our_level_follows_that_of_transformers_down() -> None:
    level = transformers_logging.get_verbosity()
    try:
        for verbosity, expected in ((logging.ERROR, logging.INFO), (logging.DEBUG, logging.DEBUG)):
            transformers_logging.set_verbosity(verbosity)
            run_command(lambda _arguments: None, [])
            assert logging.getLogger("zeroshot").level == expected
    finally:
        transformers_logging.set_verbosity(level)
        run_command(lambda _arguments: None, [])

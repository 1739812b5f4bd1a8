"""What this package promises, and the tests that keep each promise: none of them can be renamed or removed unnoticed."""

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .test_conformance import TOLERANCE

ROOT = Path(__file__).resolve().parents[1]
PROMISES: dict[str, list[str]] = {
    "Every label asked for comes back; nothing is cut in silence: overflow is split, an error, or a reported truncation.": [
        "call_labels::five_hundred_labels_give_five_hundred_scores",
        "conformance::a_hundred_labels_and_odd_texts_all_come_back",
        "call_long_texts::fifty_thousand_tokens_are_read_in_bounded_memory",
        "call_long_texts::windows_hold_every_token_and_overlap",
        "call_long_texts::long_texts_can_be_refused",
        "call_long_texts::truncation_is_reported_with_the_number_of_tokens",
        "label_index::long_texts_are_read_in_windows_as_predict_reads_them",
        "training::training_texts_that_are_cut_are_counted",
        "teachers::texts_that_the_teacher_cuts_are_counted",
        "conformance::texts_beyond_the_limit_are_reported",
        "inputs::a_label_is_never_cut",
        "handler_options::long_texts_are_read_in_windows",
        "handler_options::a_cut_is_told",
    ],
    "A score does not depend on the batch, the padding, the order of labels, or the number of processes.": [
        "conformance::a_text_does_not_depend_on_its_batch",
        "conformance::batch_size_and_order_of_texts_change_nothing",
        "conformance::padding_changes_nothing",
        "conformance::a_tokenizer_that_pads_on_the_left_changes_nothing",
        "conformance::order_of_labels_changes_only_the_order_of_scores",
        "conformance::a_label_does_not_depend_on_the_other_candidates",
        "call_long_texts::long_and_short_texts_do_not_disturb_each_other",
        "predict_resume::killed_runs_and_several_processes_give_the_same_bytes",
        "distributed::two_processes_train_like_one",
        "promises::the_tolerance_is_published",
    ],
    "Loading needs no network and no pickle, and runs no code that nobody allowed; nothing private leaves the machine.": [
        "clean_process::model_and_pipeline_load_without_the_package",
        "conformance::checkpoint_holds_no_pickle_no_local_path_and_no_tokenizer_state",
        "damaged_checkpoints::a_checkpoint_of_another_kind_runs_none_of_its_code",
        "handler::loads_no_other_repository",
        "loading::own_checkpoint_loads_without_remote_code",
        "model_card::nothing_of_the_machine_is_in_it",
        "training::leaves_a_model_that_loads_and_learned",
        "publishing::only_what_makes_the_model_is_published",
        "publishing::leaks_are_found_and_not_repeated",
        "publishing_runs::settings_that_would_send_the_wrong_thing",
    ],
    "Interrupt anything long and start it again: the result is the same, nothing is paid for or computed twice.": [
        "training::killed_and_started_again_it_ends_with_the_same_weights",
        "distributed::a_killed_run_of_two_processes_ends_with_the_same_weights",
        "teachers::an_interrupted_round_of_questions_ends_with_the_same_scores",
        "generation_resume::killed_and_started_again_it_asks_for_no_answer_twice",
        "generation_batch::a_killed_batch_run_goes_on_with_its_batch",
        "predict_resume::killed_runs_and_several_processes_give_the_same_bytes",
        "predict_resume::only_what_is_missing_is_classified",
        "search_resume::a_killed_search_goes_on",
        "publishing_faults::a_connection_cut_in_an_upload_is_taken_up_again",
        "publishing_faults::a_lost_answer_to_a_commit_makes_no_second_one",
        "publishing_runs::the_end_insists_and_the_same_command_tries_again",
        "benchmark::every_seed_is_trained_measured_and_not_repeated",
    ],
    "Bad input gets an error that says where, what was expected and how to mend it; good rows are not lost.": [
        "conformance::bad_input_gets_the_documented_error",
        "validation::a_bad_row_is_explained",
        "loading_sources::a_bad_line_costs_only_itself",
        "loading_sources::refused_rows_of_all_sources_are_written_readably",
        "training::refused_rows_are_listed_and_the_others_trained_on",
        "evaluation_set::a_label_that_is_no_candidate_is_explained_with_its_row",
        "predict_options::a_text_that_is_refused_is_named_by_its_line",
        "prediction_bad_lines::a_bad_jsonl_line_is_listed_and_the_others_are_classified",
        "prediction_bad_lines::a_bad_csv_row_is_listed_and_the_others_are_classified",
        "generation_faults::a_bad_answer_is_asked_again_with_the_reason",
        "handler::bad_requests_are_refused_with_the_mend",
        "handler_options::bad_options_are_refused_with_the_mend",
        "cli::errors_end_with_their_message_alone",
    ],
    "Every number in README, docs and model cards is written by a command that is named beside it.": [
        "promises::figures_stand_beside_a_command",
        "cli::the_reported_command_measures_the_same_again",
        "model_card::the_model_index_holds_every_figure_of_the_evaluation_files",
        "model_card::every_architecture_has_a_card_that_invents_nothing",
        "model_card::speed_is_measured_within_the_budget",
        "packaged_data::the_data_card_states_the_figures_of_the_report",
    ],
}
# Of each promise, those that run on every registered architecture, by the fixture of tests/conftest.py.
ON_EVERY_ARCHITECTURE = [
    "call_labels::five_hundred_labels_give_five_hundred_scores",
    "call_long_texts::fifty_thousand_tokens_are_read_in_bounded_memory",
    "call_long_texts::truncation_is_reported_with_the_number_of_tokens",
    "clean_process::model_and_pipeline_load_without_the_package",
    "conformance::a_text_does_not_depend_on_its_batch",
    "conformance::bad_input_gets_the_documented_error",
    "conformance::checkpoint_holds_no_pickle_no_local_path_and_no_tokenizer_state",
    "conformance::order_of_labels_changes_only_the_order_of_scores",
    "conformance::padding_changes_nothing",
]
# A model card, of which the docs hold an example, is written as a whole by one command and has tests of its own.
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if "card" not in path.name)]
COMMAND = re.compile(r"(?:`|^)make \w|python \S|zeroshot [a-z]+ |train\.py|benchmarks/\w", flags=re.MULTILINE)
# A cell that begins with a decimal number, which only a measurement gives.
FIGURE = re.compile(r"^\|.*\| *\**[\d,]*\.\d", flags=re.MULTILINE)


def find_test(name: str) -> Callable[..., None]:
    module, function = name.split("::")
    return getattr(importlib.import_module(f".test_{module}", __package__), f"test_{function}")


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_has_tests(promise: str) -> None:
    """Of this name, and none that is always passed over."""
    for name in PROMISES[promise]:
        marks = [mark.name for mark in getattr(find_test(name), "pytestmark", [])]
        assert not {"skip", "xfail"} & set(marks), name


@pytest.mark.parametrize("name", ON_EVERY_ARCHITECTURE)
def test_it_is_kept_by_every_architecture(name: str) -> None:
    assert any(name in kept for kept in PROMISES.values())
    assert "model" in inspect.signature(find_test(name)).parameters


def test_the_tolerance_is_published() -> None:
    """That to which the conformance suite holds every architecture."""
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    assert f"move no logit by more than {TOLERANCE:.0e}".replace("e-0", "e-") in page


def split_sections(text: str) -> list[str]:
    """A page in its sections of the second level, code of shells, whose comments look like headings, among them."""
    return re.split(r"^(?=## )", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_figures_stand_beside_a_command(page: str) -> None:
    """A section whose table holds measured figures names what measures them."""
    for section in split_sections((ROOT / page).read_text(encoding="utf-8")):
        if FIGURE.search(section):
            assert COMMAND.search(section), section[:80]

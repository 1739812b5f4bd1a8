"""What a model is measured on: which labels are candidates of which text, and which of them hold."""

import re

import numpy as np
import pytest

from zeroshot.data import Source, build_evaluation_set

from .data_helpers import make_row, make_source

ROWS = [
    make_row("goal", ["sports"], ["rain"]),
    make_row("hm", []),
    make_row("wet match", ["rain", "sports"]),
    make_row("song", ["music"], ["sports", "joy"]),
]


def make_closed() -> Source:
    return make_source(ROWS, ["joy", "music", "rain", "sports", "never carried"])


def test_rows_of_a_closed_set_have_all_its_labels_as_candidates() -> None:
    evaluation_set = build_evaluation_set(make_closed())
    assert evaluation_set.texts == ["goal", "wet match", "song"]
    assert evaluation_set.candidate_labels == ["joy", "music", "rain", "sports", "never carried"]
    assert evaluation_set.targets.tolist() == [[0, 0, 0, 1, 0], [0, 0, 1, 1, 0], [0, 1, 0, 0, 0]]
    assert evaluation_set.targets.dtype == np.int64


def test_freely_labelled_rows_have_what_they_name_as_candidates() -> None:
    evaluation_set = build_evaluation_set(make_source(ROWS))
    assert evaluation_set.candidate_labels == ["sports", "rain", "music", "joy"]
    # The second row names no negatives: against its own labels alone it would always be right.
    assert evaluation_set.targets.tolist() == [[1, 0, -100, -100], [1, 1, 0, 0], [0, -100, 1, 0]]
    assert evaluation_set.targets.dtype == np.int64


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "free"])
def test_given_candidates_replace_those_of_the_source(closed: bool) -> None:
    source = make_closed() if closed else make_source(ROWS)
    evaluation_set = build_evaluation_set(source, candidate_labels=("music", "sports", "rain"))
    assert evaluation_set.candidate_labels == ["music", "sports", "rain"]
    assert evaluation_set.targets.tolist() == [[0, 1, 0], [0, 1, 1], [1, 0, 0]]


def test_the_candidates_of_the_source_are_not_shared() -> None:
    """Changing the measurement must not change the source."""
    source = make_closed()
    build_evaluation_set(source).candidate_labels.append("new")
    assert source.candidate_labels == ["joy", "music", "rain", "sports", "never carried"]


@pytest.mark.parametrize("source", [make_source(ROWS), make_closed()], ids=["free", "closed"])
def test_rows_without_labels_are_left_out_and_not_counted(source: Source) -> None:
    evaluation_set = build_evaluation_set(source)
    assert len(evaluation_set) == len(evaluation_set.texts) == len(evaluation_set.targets) == 3


def test_a_source_without_labelled_rows_is_explained() -> None:
    message = "Expected rows with labels in 'memory', found none. Choose another file."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_evaluation_set(make_source([make_row("hm", [], ["joy"])]))


def test_a_label_that_is_no_candidate_is_explained_with_its_row() -> None:
    message = "Expected labels among the 2 candidates, found 'music' in row 4 of 'memory'. Add it to the candidates."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_evaluation_set(make_source(ROWS), candidate_labels=["sports", "rain"])


def test_a_candidate_given_twice_is_refused() -> None:
    """One of the two columns would count as wrong whatever the model says."""
    with pytest.raises(ValueError, match="^Expected distinct candidate labels, found 'sports'"):
        build_evaluation_set(make_source(ROWS), candidate_labels=["sports", "rain", "music", "sports"])


def test_candidates_given_as_one_string_are_not_taken_apart_into_letters() -> None:
    source = make_source([make_row("goal", ["a"]), make_row("song", ["b"])])
    assert build_evaluation_set(source, candidate_labels="a, b").candidate_labels == ["a", "b"]

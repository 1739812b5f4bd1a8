"""From training examples to a batch: every distinct label is worded and tokenised once."""

import random
from collections.abc import Callable, Collection, Sequence

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from ..models import build_inputs
from .expansion import TrainingExample

BatchExtra = Callable[[Sequence[TrainingExample], Sequence[str]], dict[str, torch.Tensor]]


def list_share(total: int, process: int, processes: int) -> list[int]:
    """Which of `total` rows one of several processes takes: as many in each, in order, by repeating the last row.

    Equal numbers let processes exchange rows without telling each other how many; repeated ones stand at the end.

    Example:
        >>> [list_share(5, process, 3) for process in range(3)]
        [[0, 1], [2, 3], [4, 4]]
    """
    size = -(-total // processes)
    return [min(row, total - 1) for row in range(process * size, (process + 1) * size)]


def draw_template(templates: Sequence[str], seed: str) -> str:
    """One of some wordings; to seed a generator costs more than all else that is done for a label."""
    return templates[0] if len(templates) == 1 else random.Random(seed).choice(templates)


class ZeroShotCollator:
    """Turn examples into the arguments of `forward`.

    The grid `labels` (B, N) holds 1 for every pair of the batch that is true, whoever brought the label; 0 for a label
    that the example lists as negative, and for labels of the example's own closed set; -100 (no candidate) for all other
    pairs, because nobody said that they do not hold, and for names that the example leaves unjudged.

    Args:
        tokenizer: The encoder's tokenizer.
        max_tokens: The most tokens of a text or label.
        class_templates: Wordings with one placeholder `{}`; one is drawn per label and batch.
        label_sets: Per source its closed set of labels, with their other names, or None.
        candidates_per_text: The most labels of the batch that a text is scored against: those it brought first, then a
            seeded draw of the others. The whole grid when None. For architectures that pay for every pair.
        sentence_sources: Numbers of the sources whose labels are whole sentences, around which no template is put.
        extras: Functions of the examples and the N distinct labels that return further tensors of the batch, for the loss.
        share: This process and how many there are. All of them get the examples of the whole batch and build its grid, and
            each tokenises the texts and labels of its own [`list_share`] only.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        class_templates: Sequence[str],
        label_sets: Sequence[Sequence[str] | None],
        candidates_per_text: int | None = None,
        sentence_sources: Collection[int] = (),
        extras: Sequence[BatchExtra] = (),
        share: tuple[int, int] = (0, 1),
    ):
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.class_templates = list(class_templates)
        self.candidates_per_text = candidates_per_text
        self.sentence_sources = frozenset(sentence_sources)
        self.extras = list(extras)
        self.share = share
        self.label_sets = [None if names is None else frozenset(names) for names in label_sets]

    def build_targets(self, examples: Sequence[TrainingExample], classes: Sequence[str]) -> torch.Tensor:
        """The grid described above, (B, N), int64."""
        targets = torch.full((len(examples), len(classes)), -100)
        column = {name: position for position, name in enumerate(classes)}
        # Rows and columns by value, in the order in which they are written.
        cells: dict[int, tuple[list[int], list[int]]] = {0: ([], []), 1: ([], []), -100: ([], [])}
        rows_of: dict[int, list[int]] = {}
        for row, example in enumerate(examples):
            rows_of.setdefault(example["source"], []).append(row)
            for names, value in ((example["known_negatives"], 0), (example["labels"], 1), (example["unjudged"], -100)):
                columns = [column[name] for name in names if name in column]
                cells[value][0].extend([row] * len(columns))
                cells[value][1].extend(columns)
        # Few large writes: one or two a row would take longer than all the rest, and many processes have millions of cells.
        for source, rows in rows_of.items():
            if label_set := self.label_sets[source]:
                inside = [column[name] for name in classes if name in label_set]
                targets[torch.tensor(rows).unsqueeze(1), torch.tensor(inside, dtype=torch.long)] = 0
        for value, places in cells.items():
            targets[places] = value
        return targets

    def choose_candidates(self, examples: Sequence[TrainingExample], classes: Sequence[str]) -> torch.Tensor:
        """Which pairs are scored, (B, N) bool: a text's own labels, positives before negatives, then drawn ones."""
        mask = torch.zeros(len(examples), len(classes), dtype=torch.bool)
        denials = {name for example in examples for name in example["denials"]}  # each is asked of its own text only
        column = {name: position for position, name in enumerate(classes)}
        for row, example in enumerate(examples):
            drawn = random.Random(f"{example['draw']}-candidates").sample(classes, len(classes))
            others = [name for name in drawn if name not in denials]
            ranked = dict.fromkeys([*example["positives"], *example["negatives"], *others])
            mask[row, [column[name] for name in list(ranked)[: self.candidates_per_text]]] = True
        return mask

    def word_classes(self, examples: Sequence[TrainingExample], classes: Sequence[str]) -> list[str]:
        """Put every label into a drawn template, except those that are sentences."""
        seed = examples[0]["draw"]
        of_sentences = [example for example in examples if example["source"] in self.sentence_sources]
        sentences = {name for example in of_sentences for name in example["positives"] + example["negatives"]}
        return [
            name if name in sentences else draw_template(self.class_templates, f"{seed}-{name}").format(name)
            for name in classes
        ]

    def __call__(self, examples: Sequence[TrainingExample]) -> BatchEncoding:
        """The arguments of `forward`: texts (B, S), distinct labels (N, L), `labels` (B, N), maybe `candidate_mask`.

        With a share, texts and distinct labels are those of the share, the other two those of the whole batch.
        """
        classes = list(dict.fromkeys(name for example in examples for name in example["positives"] + example["negatives"]))
        worded = self.word_classes(examples, classes)
        texts = [examples[row]["text"] for row in list_share(len(examples), *self.share)]
        own = [worded[row] for row in list_share(len(worded), *self.share)]
        # Long texts were counted when the lengths were measured; a warning per batch would bury the progress bar.
        batch = build_inputs(self.tokenizer, texts, own, self.max_tokens, overflow="cut")
        batch["labels"] = self.build_targets(examples, classes)
        if self.candidates_per_text is not None:
            batch["candidate_mask"] = self.choose_candidates(examples, classes)
        for build in self.extras:
            batch.update(build(examples, classes))
        return batch

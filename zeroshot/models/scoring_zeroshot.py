"""Logits of texts against what a call names as labels: encoded once, in windows where texts are long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from .candidates_zeroshot import Candidates, word_phrasings
from .features_zeroshot import Features, concatenate_features, select_features
from .inputs_zeroshot import TextError
from .options_zeroshot import CallOptions
from .windows_zeroshot import fit_texts, pool_windows

if TYPE_CHECKING:
    from .prediction_zeroshot import ZeroShotPrediction


@dataclass
class ScoredText:
    """What scoring says of one text.

    Args:
        logits: Of its n labels, (n,) float32 on the CPU.
        windows: In how many windows it was read.
        truncated: How many of its tokens were not read beside some label.
        vector: Its unit vector (D,), where it was asked for.
        parts: Which of its tokens each window holds, see [`FittedTexts`]; none where it was read whole.
        best_windows: For each label, the window with its highest logit, (n,) int64, where an explanation was asked for.
    """

    logits: torch.Tensor
    windows: int
    truncated: int
    vector: torch.Tensor | None
    parts: list[tuple[int, int]]
    best_windows: torch.Tensor | None


def pick_single(place: list[list[int]], position: dict[int, int]) -> torch.Tensor | None:
    """Where each label's column stands, (n,); None if a label has several phrasings."""
    if any(len(columns) > 1 for columns in place):
        return None
    return torch.tensor([position[columns[0]] for columns in place])


class CandidateScorer:
    """Scores texts for one call, and keeps the labels that it has encoded.

    Args:
        model: A model with its tokenizer.
        options: Those of the call; templates, phrasings and overflow count here.
        batch_size: Rows (texts, or windows of them) per pass of the encoder; it does not change the scores.
        show_progress_bar: Whether to show rows done, rows/s and the time left.
    """

    def __init__(
        self, model: "ZeroShotPrediction", options: CallOptions, *, batch_size: int = 64, show_progress_bar: bool = False
    ) -> None:
        self.model = model
        self.options = options
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar
        self._columns: dict[tuple[str, ...], int] = {}  # a phrasing in its T wordings
        self._features: Features | None = None  # (columns * T) rows
        self._places: dict[Candidates, list[list[int]]] = {}

    def find_columns(self, candidates: Sequence[Candidates]) -> list[list[list[int]]]:
        """For each text, for each of its labels, the columns of its phrasings; what is new among them is encoded."""
        fresh: list[tuple[str, ...]] = []
        for one in dict.fromkeys(candidates):
            if one in self._places:
                continue
            worded = word_phrasings(one, self.options.hypothesis_template, self.model.config.class_templates)
            for wordings in (wordings for phrasings in worded for wordings in phrasings):
                if wordings not in self._columns:
                    self._columns[wordings] = len(self._columns)
                    fresh.append(wordings)
            self._places[one] = [[self._columns[wordings] for wordings in phrasings] for phrasings in worded]
        if fresh:
            encoded = self.model.encode_candidate_labels([text for wordings in fresh for text in wordings], ["{}"])
            self._features = encoded if self._features is None else concatenate_features([self._features, encoded])
        return [self._places[one] for one in candidates]

    def select_columns(self, columns: Sequence[int]) -> Features:
        """Features (columns * T rows) of some columns, as [`encode_candidate_labels`] gives them."""
        assert self._features is not None
        if list(columns) == list(range(len(self._columns))):
            return self._features
        wordings = len(next(iter(self._columns)))
        chosen = torch.tensor(columns, device=self.model.device).unsqueeze(1) * wordings
        return select_features(self._features, (chosen + torch.arange(wordings, device=self.model.device)).flatten())

    def score(
        self, token_ids: Sequence[list[int]], candidates: Sequence[Candidates], judged_alone: Sequence[bool]
    ) -> list[ScoredText]:
        """Score each text against its labels.

        Args:
            token_ids: Of B texts, special tokens included, of any length.
            candidates: The labels of each text.
            judged_alone: For each text, whether its logits are for a sigmoid (a question about each label) or for a softmax.

        Raises:
            TextError: If a text is too long and may not be.
            ValueError: If a label is too long, or there is no vector to return.
        """
        scored: dict[int, ScoredText] = {}
        for alone in sorted(set(judged_alone)):
            rows = [row for row, kind in enumerate(judged_alone) if kind == alone]
            parts = self._score_alike([token_ids[row] for row in rows], [candidates[row] for row in rows], alone)
            try:
                scored.update(zip(rows, parts, strict=True))
            except TextError as error:
                raise TextError(error.found, rows[error.position], error.mend) from error
        return [scored[row] for row in range(len(token_ids))]

    def _score_alike(
        self, token_ids: list[list[int]], candidates: list[Candidates], judged_alone: bool
    ) -> Iterator[ScoredText]:
        places = self.find_columns(candidates)
        own = {id(place): [column for label in place for column in label] for place in places}  # one list, many texts
        used = sorted({column for columns in own.values() for column in columns})
        position = {column: number for number, column in enumerate(used)}
        classes = self.select_columns(used)
        room = self.model.count_room(classes).unflatten(0, (len(used), -1)).amin(dim=1)  # (N,)
        rooms = {key: int(room[[position[column] for column in columns]].min()) for key, columns in own.items()}
        limit, overflow = self.model.config.max_tokens, self.options.overflow
        fitted = fit_texts(
            self.model._require_tokenizer(), token_ids, [rooms[id(place)] for place in places], limit, overflow
        )
        if overflow == "truncate":
            self.model.warn_of_cut_texts([min(limit, len(ids)) for ids in token_ids], classes)
        # One list for all texts is the common case, and may be long: nothing is done per text and label there.
        mask = torch.full((len(fitted.token_ids), len(used)), len(own) == 1)
        for place, (first, end) in zip(places, fitted.spans, strict=True) if len(own) > 1 else ():
            mask[first:end, [position[column] for column in own[id(place)]]] = True
        picks = {key: pick_single(place, position) for key, place in {id(place): place for place in places}.items()}
        found = self._score_rows(fitted.token_ids, classes, len(used), judged_alone, None if mask.all() else mask)
        texts = zip(places, fitted.spans, fitted.truncated, fitted.parts, strict=True)
        for place, (first, end), truncated, parts in texts:
            logits = self._reduce_phrasings(found["logits"][first:end], place, position, picks[id(place)])
            vector = self._join_vectors(found["vectors"][first:end]) if "vectors" in found else None
            best = logits.argmax(dim=0) if self.options.explain else None
            pooled = pool_windows(logits, self.options.overflow_pooling)
            yield ScoredText(pooled, end - first, truncated, vector, parts, best)

    def _score_rows(
        self, token_ids: list[list[int]], classes: Features, num_columns: int, judged_alone: bool, mask: torch.Tensor | None
    ) -> Features:
        def score_batch(input_ids: torch.Tensor, attention_mask: torch.Tensor, rows: list[int]) -> Features:
            texts = self.model.encode_text(input_ids, attention_mask)
            candidates = None if mask is None else mask[rows].to(self.model.device)
            logits = self.model.score_classes(
                texts, classes, num_columns, multi_label=judged_alone, candidate_mask=candidates
            )
            found = {"logits": logits.float().cpu()}
            if self.options.return_embeddings:
                found["vectors"] = self._take_vectors(texts)
            return found

        progress_bar = tqdm(total=len(token_ids), desc="Scoring", unit=" texts", disable=not self.show_progress_bar)
        with self.model._inference(), progress_bar:
            return self.model._encode_sorted(score_batch, token_ids, self.batch_size, progress_bar)

    def _take_vectors(self, texts: Features) -> torch.Tensor:
        if "vectors" not in texts:
            raise ValueError(
                f"Expected an architecture with one vector a text for return_embeddings, found {type(self.model).__name__}, "
                f"whose texts are {', '.join(texts)}. Leave it out, or use a bi-encoder."
            )
        return texts["vectors"].float().cpu()

    @staticmethod
    def _join_vectors(vectors: torch.Tensor) -> torch.Tensor:
        """The one vector of a text: of windows (w, D), their mean, of length one again."""
        return vectors[0] if len(vectors) == 1 else torch.nn.functional.normalize(vectors.mean(dim=0), dim=0)

    def _reduce_phrasings(
        self, logits: torch.Tensor, place: list[list[int]], position: dict[int, int], single: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits (windows, n) of labels from those of all columns."""
        if single is not None:
            return logits[:, single]
        parts = [logits[:, [position[column] for column in columns]] for columns in place]
        if self.options.phrasing_reduction == "max":
            return torch.stack([part.amax(dim=1) for part in parts], dim=1)
        return torch.stack([part.mean(dim=1) for part in parts], dim=1)

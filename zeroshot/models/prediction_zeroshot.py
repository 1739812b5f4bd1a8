"""Prediction for every architecture: labels encoded once, texts in batches of like length."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from tqdm.auto import tqdm

from .calls_zeroshot import ZeroShotCall
from .candidates_zeroshot import CandidateLabels, read_candidates_per_text
from .configuration_zeroshot import check_class_template
from .features_zeroshot import Features, concatenate_features, count_rows, select_features
from .inputs_zeroshot import (
    check_batch_size,
    check_candidate_labels,
    check_texts,
    pad,
    tokenize,
    tokenize_classes,
)
from .offsets_zeroshot import LabelOffsetEstimation
from .options_zeroshot import read_options
from .precision_zeroshot import Precision, use_precision

# From the features of texts and labels, how many labels there are and which are candidates, to (texts, labels).
ScoreTexts = Callable[[Features, Features, int, torch.Tensor | None], torch.Tensor]


# Padded tokens of a pass on a CPU: what a layer computes for more no longer fits into its caches (LOG.md, small passes).
CPU_TOKENS = 512


class ZeroShotPrediction(LabelOffsetEstimation):
    """The part of the base model that classifies; mixed into [`ZeroShotPreTrainedModel`]."""

    # Within `keep_encoded_labels`: the labels and templates that were encoded last, and their features.
    _kept_labels: tuple[tuple, Features] | None = None

    @contextmanager
    def _inference(self):
        """Evaluation mode without gradients; the mode of before comes back."""
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(was_training)

    def _encode_sorted(
        self,
        encode: Callable[[torch.Tensor, torch.Tensor, list[int]], Features],
        token_ids: list[list[int]],
        batch_size: int,
        progress_bar: tqdm,
    ) -> Features:
        """Encode rows in batches of like length, so that little is padded; the result is in the rows' order.

        `encode` gets ids, mask, and which rows they are: at most `batch_size`, on a CPU fewer where they are long.
        """
        tokenizer = self._require_tokenizer()
        order = sorted(range(len(token_ids)), key=lambda row: -len(token_ids[row]))
        parts, start = [], 0
        while start < len(order):
            longest = len(token_ids[order[start]])
            most = max(1, CPU_TOKENS // longest) if self.device.type == "cpu" else batch_size
            rows = order[start : start + min(batch_size, most)]
            batch = pad(tokenizer, [token_ids[row] for row in rows]).to(self.device)
            parts.append(encode(batch["input_ids"], batch["attention_mask"], rows))
            progress_bar.update(len(rows))
            start += len(rows)
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        features = concatenate_features(parts)
        return select_features(features, back.to(next(iter(features.values())).device))

    @contextmanager
    def keep_encoded_labels(self):
        """Within, calls one after the other with the same labels encode them once; the weights must not change."""
        self._kept_labels = ((), {})
        try:
            yield
        finally:
            self._kept_labels = None

    def encode_candidate_labels(
        self, candidate_labels: Sequence[str], class_templates: Sequence[str] | None = None, *, batch_size: int = 256
    ) -> Features:
        """Encode label names in every template: features of N * T rows, the T wordings of a label side by side.

        Args:
            candidate_labels: N label names.
            class_templates: T wordings with one placeholder `{}` each; the configuration's when left out.
            batch_size: Rows per pass of the encoder.
        """
        templates = [check_class_template(t) for t in class_templates or self.config.class_templates]
        wordings = (tuple(candidate_labels), tuple(templates))
        if self._kept_labels is not None and self._kept_labels[0] == wordings:
            return self._kept_labels[1]
        worded = [template.format(label) for label in candidate_labels for template in templates]
        token_ids = tokenize_classes(self._require_tokenizer(), worded, self.config.max_tokens)
        with self._inference(), tqdm(disable=True) as silent:
            features = self._encode_sorted(
                lambda ids, mask, _: self.encode_classes(ids, mask), token_ids, batch_size, silent
            )
        if self._kept_labels is not None:
            self._kept_labels = (wordings, features)
        return features

    def encode_texts(
        self,
        texts: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
    ) -> Features:
        """Encode texts by themselves, for callers that compare them in a way of their own.

        Args:
            texts: B texts, none of them empty; longer ones than the model reads are cut with a warning.
            names: Which features are kept; all when left out.
            batch_size: Texts per pass of the encoder.
            show_progress_bar: Whether to show texts done, texts/s and the time left.

        Returns:
            Features of B rows, on the model's device.
        """
        token_ids = tokenize(self._require_tokenizer(), check_texts(texts), self.config.max_tokens, overflow="warn")
        return self.encode_rows(token_ids, names=names, batch_size=batch_size, show_progress_bar=show_progress_bar)

    def encode_rows(
        self,
        token_ids: list[list[int]],
        *,
        names: Sequence[str] | None = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
    ) -> Features:
        """As [`encode_texts`], of texts or windows that are tokens already, at least one and none of them too long."""
        progress_bar = tqdm(total=len(token_ids), desc="Encoding", unit=" texts", disable=not show_progress_bar)

        def encode(input_ids: torch.Tensor, attention_mask: torch.Tensor, _: list[int]) -> Features:
            features = self.encode_text(input_ids, attention_mask)
            return {name: features[name] for name in names or features}

        with self._inference(), progress_bar:
            return self._encode_sorted(encode, token_ids, check_batch_size(batch_size), progress_bar)

    def score_alternatives(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `score`, but logits for a softmax over the labels; only entailment heads tell the two apart."""
        return self.score(text_features, class_features, candidate_mask)

    def score_classes(
        self,
        text_features: Features,
        class_features: Features,
        num_labels: int,
        *,
        multi_label: bool = False,
        candidate_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Score texts against labels that were encoded in T wordings each.

        Args:
            text_features: Of B texts.
            class_features: Of N * T rows, as [`encode_candidate_labels`] put them: the wordings of a label side by side.
            num_labels: N.
            multi_label: Whether the logits are for a sigmoid (`score`) or for a softmax over the labels
                (`score_alternatives`); a single label shares with none.
            candidate_mask: (B, N) bool, true where a label is a candidate of the text; all are when left out. The logits
                of other pairs mean nothing, and where pairs cost, they are not computed.

        Returns:
            Logits (B, N): the mean over the wordings.
        """
        if candidate_mask is not None:
            candidate_mask = candidate_mask.repeat_interleave(count_rows(class_features) // num_labels, dim=1)  # (B, N * T)
        score = self.score if multi_label or num_labels == 1 else self.score_alternatives
        logits = score(text_features, class_features, candidate_mask)  # (B, N * T)
        return logits.unflatten(1, (num_labels, -1)).mean(dim=2)  # (B, N)

    def count_room(self, class_features: Features) -> torch.Tensor:
        """The most tokens of a text, special tokens included, that are read whole beside each label: (N * T,) int64."""
        return torch.full((count_rows(class_features),), self.config.max_tokens)

    def weigh_tokens(self, text_features: Features, class_features: Features) -> torch.Tensor | None:
        """Parts of the logits (B, N * T) by text token, (B, S, N * T), without the bias; None where they are no such sum."""
        return None

    def warn_of_cut_texts(self, lengths: Sequence[int], class_features: Features) -> None:
        """Say which texts of these lengths in tokens lose their end beside a label; none where both are encoded apart."""

    def predict_logits(
        self,
        texts: Sequence[str],
        candidate_labels: str | Sequence[str],
        *,
        class_templates: Sequence[str] | None = None,
        multi_label: bool = False,
        candidate_mask: torch.Tensor | None = None,
        batch_size: int = 64,
        precision: Precision = "fp32",
        show_progress_bar: bool = False,
    ) -> torch.Tensor:
        """Score every text against every label.

        Args:
            texts: B texts, none of them empty.
            candidate_labels: N label names, as a list or separated by commas.
            class_templates: Wordings of a label; the configuration's when left out.
            multi_label: What the logits are for, see [`score_classes`].
            candidate_mask: Which labels are candidates of which text, (B, N) bool; the logits of others mean nothing.
            batch_size: Most texts per pass of the encoder; it does not change the scores.
            precision: See [`use_precision`]; `fp32` changes nothing.
            show_progress_bar: Whether to show texts done, texts/s and the time left.

        Returns:
            Raw logits (B, N), float32, on the CPU.

        Raises:
            TypeError: If a text or label is not a string.
            ValueError: If a text is empty, labels are missing, empty or repeated, or `batch_size` is below 1.
        """

        def score(texts: Features, classes: Features, num_labels: int, candidates: torch.Tensor | None) -> torch.Tensor:
            logits = self.score_classes(texts, classes, num_labels, multi_label=multi_label, candidate_mask=candidates)
            return logits.float()

        with use_precision(precision, self.device.type):
            return self._score_texts(
                texts, candidate_labels, score, class_templates, candidate_mask, batch_size, show_progress_bar
            )

    def predict_shortlist(
        self,
        texts: Sequence[str],
        candidate_labels: str | Sequence[str],
        *,
        class_templates: Sequence[str] | None = None,
        candidate_mask: torch.Tensor | None = None,
        batch_size: int = 64,
    ) -> torch.Tensor | None:
        """Which labels of a text the second stage scores, for architectures with two.

        Args:
            texts: B texts.
            candidate_labels: N label names.
            class_templates: Wordings of a label; the configuration's when left out.
            candidate_mask: Which labels are candidates of which text, (B, N) bool.
            batch_size: Texts per pass of the encoder.

        Returns:
            (B, N) bool on the CPU, or None where every label is scored in one way.
        """
        if not self.has_shortlist:
            return None
        return self._score_texts(
            texts, candidate_labels, self.choose_classes, class_templates, candidate_mask, batch_size, False
        )

    def _score_texts(
        self,
        texts: Sequence[str],
        candidate_labels: str | Sequence[str],
        score: ScoreTexts,
        class_templates: Sequence[str] | None,
        candidate_mask: torch.Tensor | None,
        batch_size: int,
        show_progress_bar: bool,
    ) -> torch.Tensor:
        check_batch_size(batch_size)
        labels = check_candidate_labels(candidate_labels)
        texts = check_texts(texts)
        if not texts:
            return torch.empty(0, len(labels))
        class_features = self.encode_candidate_labels(labels, class_templates)
        if candidate_mask is not None and candidate_mask.shape != (len(texts), len(labels)):
            raise ValueError(
                f"Expected a candidate_mask of shape (texts, candidate labels) {(len(texts), len(labels))}, found "
                f"{tuple(candidate_mask.shape)}. Give true or false for every pair."
            )
        return self.score_texts(
            texts,
            class_features,
            len(labels),
            score=score,
            candidate_mask=candidate_mask,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )

    def score_texts(
        self,
        texts: Sequence[str],
        class_features: Features,
        num_labels: int,
        *,
        score: ScoreTexts | None = None,
        multi_label: bool = False,
        candidate_mask: torch.Tensor | None = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        overflow: Literal["warn", "cut"] = "warn",
    ) -> torch.Tensor:
        """Score texts against labels that are encoded already, for callers that keep them.

        Args:
            texts: B texts.
            class_features: What [`encode_candidate_labels`] returned for N labels.
            num_labels: N.
            score: From the features of some texts and of the labels, N and the texts' part of `candidate_mask` to
                (texts, N); `score_classes` when left out.
            multi_label: What the logits of `score_classes` are for, see there.
            candidate_mask: Which labels are candidates of which text, (B, N) bool; all are when left out.
            batch_size: Most texts per pass of the encoder; it does not change the scores.
            show_progress_bar: Whether to show texts done, texts/s and the time left.
            overflow: What happens to texts that are too long, see [`tokenize`].

        Returns:
            (B, N) on the CPU: raw logits, unless `score` gives something else.
        """
        score = score or (
            lambda texts, classes, n, mask: self.score_classes(
                texts, classes, n, multi_label=multi_label, candidate_mask=mask
            )
        )
        token_ids = tokenize(self._require_tokenizer(), texts, self.config.max_tokens, overflow=overflow)
        if overflow == "warn":
            self.warn_of_cut_texts([len(ids) for ids in token_ids], class_features)
        progress_bar = tqdm(total=len(texts), desc="Scoring", unit=" texts", disable=not show_progress_bar)

        def score_batch(input_ids: torch.Tensor, attention_mask: torch.Tensor, rows: list[int]) -> Features:
            candidates = None if candidate_mask is None else candidate_mask[rows].to(self.device)
            return {
                "scores": score(self.encode_text(input_ids, attention_mask), class_features, num_labels, candidates).cpu()
            }

        with self._inference(), progress_bar:
            return self._encode_sorted(score_batch, token_ids, batch_size, progress_bar)["scores"]

    def predict(
        self,
        texts: str | Sequence[str],
        candidate_labels: CandidateLabels | Sequence[CandidateLabels],
        *,
        class_templates: Sequence[str] | None = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        **options: Any,
    ) -> list[dict]:
        """Classify texts.

        Args:
            texts: One text or B texts.
            candidate_labels: Labels for all texts in a form of [`read_candidates`] (names as a list or one string with
                commas, names with descriptions, a hierarchy), or a list with one such form per text.
            class_templates: Wordings of a label; the configuration's when left out.
            batch_size: Most texts per pass of the encoder; it does not change the scores.
            show_progress_bar: Whether to show progress.
            **options: Those of [`CallOptions`]; an unknown one is an error.

        Returns:
            Per text `{"text": ..., "scores": {label: probability}}`, labels in the order asked for, probabilities
            between 0 and 1, and what the options add; `windows` where a text was so long that it was read in several.

        Raises:
            TypeError: If a text or label is not a string, or an option is unknown.
            ValueError: If a text is empty; labels are missing, empty or repeated; there are not as many lists as texts; or
                an option does not go with the rest.

        Example:
            >>> model.predict(["The match ended 3:2."], ["sports", "cooking"])  # doctest: +SKIP
            [{'text': 'The match ended 3:2.', 'scores': {'sports': 0.98, 'cooking': 0.02}}]
        """
        if class_templates is not None:
            if options.get("hypothesis_template") is not None:
                raise ValueError(
                    "Expected class_templates or hypothesis_template, found both. They say the same; leave one out."
                )
            options["hypothesis_template"] = class_templates
        call = ZeroShotCall(self, read_options(options), batch_size=batch_size, show_progress_bar=show_progress_bar)
        texts = check_texts([texts] if isinstance(texts, str) else texts)
        if not texts:
            return []
        candidates = read_candidates_per_text(candidate_labels, len(texts))
        token_ids = self._require_tokenizer()(texts, add_special_tokens=True, verbose=False)["input_ids"]
        top_k = call.options.top_k
        return [
            {"text": text, "scores": result.map_scores(top_k), **result.details}
            for text, result in zip(texts, call.classify(texts, token_ids, candidates), strict=True)
        ]

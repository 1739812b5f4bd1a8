"""Drop-in of transformers' `pipeline("zero-shot-classification")` for every architecture of this package.

Same arguments, same output, same errors. What differs: labels are encoded once per call instead of once per text; tuples,
`datasets` columns and empty lists are taken for what they are; without a template the checkpoint's own are used; texts that
are too long are read in windows instead of cut; and a label given twice is an error. Further options are [`CallOptions`].
"""

import copy
from collections.abc import Sequence
from typing import Any

from transformers import Pipeline

from .calls_zeroshot import ZeroShotCall
from .candidates_zeroshot import are_per_text, read_candidates, read_candidates_per_text
from .inputs_zeroshot import check_texts
from .options_zeroshot import OPTION_NAMES, read_options, warn_of_near_misses


class ZeroShotPipeline(Pipeline):
    """Score sequences against candidate labels.

    Example:
        >>> from transformers import pipeline
        >>> classifier = pipeline(  # doctest: +SKIP
        ...     "zero-shot-classification", model="outputs/quickstart", trust_remote_code=True
        ... )
        >>> classifier("The match ended 3:2.", candidate_labels=["sports", "cooking"])  # doctest: +SKIP
        {'sequence': 'The match ended 3:2.', 'labels': ['sports', 'cooking'], 'scores': [0.98, 0.02]}
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True
    tokenizer: Any

    def __init__(self, *args, **kwargs):
        self._call = None
        self._forward_params = {}
        super().__init__(*args, **kwargs)
        if self.tokenizer.padding_side != "right":  # batches are padded by the stock code, by the tokenizer's habit
            self.tokenizer = copy.deepcopy(self.tokenizer)
            self.tokenizer.padding_side = "right"
        if self.model.tokenizer is None:
            self.model.tokenizer = self.tokenizer

    def _sanitize_parameters(self, candidate_labels=None, **given):
        # The stock pipeline ignores arguments it does not know, and callers rely on that.
        warn_of_near_misses(name for name in given if name not in OPTION_NAMES)
        options = {name: given[name] for name in OPTION_NAMES if given.get(name) is not None}
        read_options(self._merge_options(options))
        labels = {} if candidate_labels is None else {"candidate_labels": candidate_labels}
        if labels and not are_per_text(candidate_labels):
            labels = {"candidate_labels": read_candidates(candidate_labels)}
        return {}, {**labels, **options}, {}

    def _merge_options(self, options):
        return {**{name: value for name, value in self._forward_params.items() if name in OPTION_NAMES}, **options}

    def __call__(self, sequences, *args, **kwargs):
        """Classify one sequence or many.

        Args:
            sequences: A string, or a list, tuple, `datasets` column, generator or `KeyDataset` of strings.
            candidate_labels: Labels in a form of [`read_candidates`] (names as a list or one string with commas, names with
                descriptions, a hierarchy), or a list with one such form per sequence; also as second positional argument.
            batch_size: Sequences per pass of the encoder; it does not change the scores.
            **kwargs: `multi_label`, `hypothesis_template` and the other options of [`CallOptions`].

        Returns:
            `{"sequence", "labels", "scores"}` with labels by falling score for a string, a list of these for a list, an
            iterator for a generator or a `KeyDataset`. Options add further keys; `windows` is there where a sequence was
            so long that it was read in several.

        Raises:
            TypeError: If no candidate labels were given, or something is not a string.
            ValueError: If labels are missing, empty or repeated, a sequence is empty, a template has no placeholder, or an
                option does not go with the rest.
        """
        self._call = None  # the weights may have changed since the last call
        if len(args) > 1 or (args and "candidate_labels" in kwargs):
            raise ValueError(
                f"Expected sequences and candidate labels, found the further positional arguments {args!r}. "
                "Name them: hypothesis_template=..., multi_label=..."
            )
        if args:
            kwargs["candidate_labels"] = args[0]
        labels = kwargs.get("candidate_labels")
        if labels is None:
            labels = self._forward_params.get("candidate_labels")
        if labels is None:
            raise TypeError("Expected candidate_labels, found none. Pass label names like ['sports', 'politics'].")
        if isinstance(sequences, Sequence) and not isinstance(sequences, str):
            sequences = check_texts(sequences)
            if not sequences:
                return []
        if are_per_text(labels):
            return self._call_per_text(sequences, labels, **kwargs)
        return super().__call__(sequences, **kwargs)

    def _call_per_text(self, sequences, labels, batch_size=None, **kwargs):
        """Each sequence with its own labels; all of them at once, since labels that several share are encoded once."""
        if not isinstance(sequences, str | list):
            raise TypeError(
                f"Expected a list of sequences with a list of candidate labels for each, found {type(sequences).__name__}. "
                "Put the sequences into a list, or pass labels for all of them."
            )
        _, given, _ = self._sanitize_parameters(**{**kwargs, "candidate_labels": None})
        texts = [sequences] if isinstance(sequences, str) else sequences
        candidates = read_candidates_per_text(labels, len(texts))
        inputs = [self.preprocess(text) for text in texts]
        options = read_options(self._merge_options(given))
        call = ZeroShotCall(self.model, options, batch_size=batch_size or self._batch_size or 1)
        answers = self._answer(call, texts, [one["token_ids"] for one in inputs], candidates)
        return answers[0] if isinstance(sequences, str) else answers

    def preprocess(self, sequence):
        [sequence] = check_texts([sequence])
        # Of any length: whether it is too long depends on the labels too, and what is done then on the options.
        [token_ids] = self.tokenizer([sequence], add_special_tokens=True, verbose=False)["input_ids"]
        return {"sequence": sequence, "token_ids": token_ids}

    def _forward(self, model_inputs, candidate_labels, **options):
        wanted = read_options(options)
        if self._call is None or self._call.options != wanted:  # results of two calls may be asked for in turns
            self._call = ZeroShotCall(self.model, wanted)
        texts, token_ids = model_inputs["sequence"], model_inputs["token_ids"]
        if isinstance(texts, str):  # a batch of one is not collated
            texts, token_ids = [texts], [token_ids]
        self._call.scorer.batch_size = len(texts)
        return {"answers": self._answer(self._call, texts, token_ids, [candidate_labels] * len(texts))}

    def _answer(self, call, texts, token_ids, candidates):
        answers = []
        for text, result in zip(texts, call.classify(texts, token_ids, candidates), strict=True):
            labels, scores = result.rank(call.options.top_k)
            answers.append({"sequence": text, "labels": labels, "scores": scores, **result.details})
        return answers

    def postprocess(self, model_outputs):
        answers = model_outputs["answers"]  # of a batch that was not collated, a list of one
        return answers[0] if isinstance(answers, list) else answers

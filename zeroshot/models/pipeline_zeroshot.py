"""Drop-in of transformers' `pipeline("zero-shot-classification")` for every architecture of this package.

Same arguments, same output, same errors. What differs: labels are encoded once per call instead of once per text; tuples,
`datasets` columns and empty lists are taken for what they are; without a template the checkpoint's own are used; and a label
given twice is an error.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Pipeline

from .configuration_zeroshot import check_class_template
from .inputs_zeroshot import check_candidate_labels, check_texts, pad, tokenize


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
        self._encoded_labels = {}
        super().__init__(*args, **kwargs)
        if self.tokenizer.padding_side != "right":  # batches are padded by the stock code, by the tokenizer's habit
            self.tokenizer = copy.deepcopy(self.tokenizer)
            self.tokenizer.padding_side = "right"
        if self.model.tokenizer is None:
            self.model.tokenizer = self.tokenizer

    def _sanitize_parameters(self, candidate_labels=None, hypothesis_template=None, multi_label=None, **_ignored):
        # The stock pipeline ignores arguments it does not know, and callers rely on that.
        forward_params: dict[str, Any] = {}
        postprocess_params: dict[str, Any] = {}
        if candidate_labels is not None:
            labels = check_candidate_labels(candidate_labels)
            forward_params["candidate_labels"] = labels
            postprocess_params["candidate_labels"] = labels
        if hypothesis_template is not None:
            forward_params["hypothesis_template"] = check_class_template(hypothesis_template)
        if multi_label is not None:
            forward_params["multi_label"] = multi_label
            postprocess_params["multi_label"] = multi_label
        return {}, forward_params, postprocess_params

    def __call__(self, sequences, *args, **kwargs):
        """Classify one sequence or many.

        Args:
            sequences: A string, or a list, tuple, `datasets` column, generator or `KeyDataset` of strings.
            candidate_labels: Label names, as a list or one string with commas; also as second positional argument.
            hypothesis_template: A wording with one placeholder `{}`; the checkpoint's own when left out.
            multi_label: Whether labels are judged one by one (sigmoid) or share 1 (softmax, the default).
            batch_size: Sequences per pass of the encoder; it does not change the scores.

        Returns:
            `{"sequence", "labels", "scores"}` with labels by falling score for a string, a list of these for a list, an
            iterator for a generator or a `KeyDataset`.

        Raises:
            TypeError: If no candidate labels were given, or something is not a string.
            ValueError: If labels are missing, empty or repeated, a sequence is empty, or a template has no placeholder.
        """
        self._encoded_labels = {}  # the weights may have changed since the last call
        if len(args) > 1 or (args and "candidate_labels" in kwargs):
            raise ValueError(
                f"Expected sequences and candidate labels, found the further positional arguments {args!r}. "
                "Name them: hypothesis_template=..., multi_label=..."
            )
        if args:
            kwargs["candidate_labels"] = args[0]
        if kwargs.get("candidate_labels") is None and "candidate_labels" not in self._forward_params:
            raise TypeError("Expected candidate_labels, found none. Pass label names like ['sports', 'politics'].")
        if isinstance(sequences, Sequence) and not isinstance(sequences, str):
            sequences = check_texts(sequences)
            if not sequences:
                return []
        return super().__call__(sequences, **kwargs)

    def preprocess(self, sequence):
        [sequence] = check_texts([sequence])
        token_ids = tokenize(self.tokenizer, [sequence], self.model.config.max_tokens, overflow="warn")
        return {**pad(self.tokenizer, token_ids), "sequence": sequence}

    def _encode_labels(self, candidate_labels, hypothesis_template):
        key = (tuple(candidate_labels), hypothesis_template)
        if key not in self._encoded_labels:
            templates = None if hypothesis_template is None else [hypothesis_template]
            # One entry: the last call's labels. More would hold on to memory that nobody asked to spend.
            self._encoded_labels = {key: self.model.encode_candidate_labels(candidate_labels, templates)}
        return self._encoded_labels[key]

    def _forward(self, model_inputs, candidate_labels, hypothesis_template=None, multi_label=False):
        class_features = self._encode_labels(candidate_labels, hypothesis_template)
        self.model.warn_of_cut_texts(model_inputs["attention_mask"].sum(dim=1).tolist(), class_features)
        text_features = self.model.encode_text(model_inputs["input_ids"], model_inputs["attention_mask"])
        logits = self.model.score_classes(text_features, class_features, len(candidate_labels), multi_label=multi_label)
        return {"logits": logits, "sequence": model_inputs["sequence"]}

    def postprocess(self, model_outputs, candidate_labels, multi_label=False):
        logits = model_outputs["logits"][0].float()  # (N,)
        scores = logits.sigmoid() if multi_label or len(candidate_labels) == 1 else logits.softmax(dim=0)
        order = torch.argsort(scores, descending=True, stable=True).tolist()
        return {
            "sequence": model_outputs["sequence"],
            "labels": [candidate_labels[position] for position in order],
            "scores": [scores[position].item() for position in order],
        }

"""Label offsets: what texts without any label say about labels that win too often.

    offset(c) = (m - r(c)) / 2

`r(c)` is the mean of label c's highest logits over some texts, a tenth of them and at least ten; `m` is the mean of `r` over
the labels, so that offsets add up to 0. A label that lies close to many texts whatever they say (a hub) has a high `r` and
is moved down, one that hardly any text comes close to is moved up. Once the offsets are there, a score depends on its own
text alone, as without them.

What it assumes: the labels hold for about equally many of the texts. A label that is near because it holds often cannot be
told from one that is near for no reason, so frequent labels are moved down and rare ones up. A little of that is no harm;
where one label holds for most texts, or most labels for none, it is (figures in LOG.md).

Source: CSLS, Conneau et al. 2018 (https://arxiv.org/abs/1710.04087). Its 2 z(x, c) - r(x) - r(c) puts the labels of a text
into the order of z(x, c) - r(c) / 2. We depart from it in the tenth, which means the same for any number of texts, where it
always takes the nearest ten, and in leaving r(x) out, which moves all labels of a text alike. Batch calibration, Zhou et al.
2023 (https://arxiv.org/abs/2309.17249), takes the mean over all texts away, for the same end.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import logging

from .candidates_zeroshot import CandidateLabels, Candidates, read_candidates
from .inputs_zeroshot import TextError, check_batch_size, check_texts
from .options_zeroshot import CallOptions, list_names, read_options
from .precision_zeroshot import use_precision
from .scoring_zeroshot import CandidateScorer

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _Model
else:
    _Model = object

logger = logging.get_logger(__name__)

NEAREST_SHARE = 0.1  # of the texts
LEAST_NEAREST = 10  # and so the fewest texts of all
STRENGTH = 0.5
FEW_TEXTS = 50
FEW_WINNERS = 2 / 3  # of the labels: below, offsets lost accuracy (LOG.md)


def check_numbers(num_texts: int, num_labels: int) -> None:
    """Refuse too few texts or labels.

    Raises:
        ValueError: If there are fewer than ten texts or two labels.
    """
    if num_texts < LEAST_NEAREST:
        raise ValueError(
            f"Expected at least {LEAST_NEAREST} different texts to estimate label offsets, found {num_texts}. Give more of "
            "the kind that will be classified, from 200 on if there are so many."
        )
    if num_labels < 2:
        raise ValueError(f"Expected at least 2 labels to estimate label offsets, found {num_labels}. One has no rivals.")


def compute_label_offsets(
    logits: torch.Tensor, *, nearest_share: float = NEAREST_SHARE, strength: float = STRENGTH
) -> torch.Tensor:
    """The offset of each label, (N,), from logits (T, N) of texts that need no labels.

    Args:
        logits: Raw logits of different texts.
        nearest_share: Of the texts, those that count for a label.
        strength: How much of the distance is taken away.

    Raises:
        ValueError: If there are fewer than ten texts or two labels, or a logit is no finite number.
    """
    check_numbers(*logits.shape)
    if not logits.isfinite().all():
        raise ValueError("Expected numbers as logits, found nan or infinity. The model has diverged: train it anew.")
    nearest = max(LEAST_NEAREST, math.ceil(nearest_share * len(logits)))
    heights = logits.float().topk(nearest, dim=0).values.mean(dim=0)  # (N,)
    return strength * (heights.mean() - heights)


def warn_of_idle_labels(logits: torch.Tensor) -> None:
    """Say so where many labels are the best of none of the texts, (T, N): offsets would move them up."""
    winners = len(logits.argmax(dim=1).unique())
    if winners < FEW_WINNERS * min(logits.shape):
        logger.warning(
            f"Only {winners} of {logits.shape[1]} labels are the best of some text. Where most labels hold for none of the "
            "texts, label offsets do harm: name the labels that occur, and give texts of all kinds."
        )


def _compute_among_siblings(logits: torch.Tensor, candidates: Candidates) -> torch.Tensor:
    """Offsets (n,) of labels, from logits (T, n): in a hierarchy, labels compete with their siblings alone."""
    offsets = torch.zeros(logits.shape[1])
    for _, children in candidates.siblings:
        if len(children) > 1:
            offsets[children] = compute_label_offsets(logits[:, children])
    return offsets


def find_offsets(
    options: CallOptions, candidates: Candidates, *, judged_alone: bool, company_matters: bool
) -> torch.Tensor | None:
    """The offsets (n,) of a text's labels, parents of a hierarchy among them.

    Args:
        options: Those of the call.
        candidates: The labels.
        judged_alone: Whether several of them may hold, or there is but one.
        company_matters: Whether the model scores a label in another way beside other labels.

    Returns:
        None where the call has none, and for a single label among texts whose labels are alternatives: it has no rivals.

    Raises:
        ValueError: If some label has none, or labels are missing whose company they were estimated in.
    """
    given: Mapping[str, float] | None = options.label_offsets
    if given is None or (judged_alone and not options.multi_label):
        return None
    missing = [name for name in candidates.names if name not in given]
    if missing:
        raise ValueError(
            f"Expected an offset for every label, found none for {list_names(missing)}. Estimate them anew with "
            "these labels: model.estimate_label_offsets(texts, labels), or zeroshot offsets."
        )
    if company_matters and (absent := [name for name in given if name not in candidates.names]):
        raise ValueError(
            "Expected the labels that the offsets were estimated with, since this model scores a label in another way "
            f"beside others, found none called {list_names(absent)}. Estimate them anew with the labels of this call."
        )
    return torch.tensor([float(given[name]) for name in candidates.names])


class LabelOffsetEstimation(_Model):
    """The part of the base model that estimates label offsets; base of [`ZeroShotPrediction`]."""

    def estimate_label_offsets(
        self,
        texts: Sequence[str],
        candidate_labels: CandidateLabels,
        *,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        **options: Any,
    ) -> dict[str, float]:
        """Estimate from texts without labels what a call's `label_offsets` should be.

        Args:
            texts: Some of the texts that will be classified, or others of their kind; each counts once. 200 or more are
                good, and at least 10 different ones are needed.
            candidate_labels: The labels of the later call, in a form of [`read_candidates`], the same for all texts.
            batch_size: Most texts per pass of the encoder.
            show_progress_bar: Whether to show progress.
            **options: Those of the later call, but for `label_offsets`; those that change no logit do nothing here.

        Returns:
            What is added to the logit of each label; parents of a hierarchy too.

        Raises:
            TypeError: If a text or label is not a string, or an option is unknown.
            ValueError: If texts or labels are too few, or a text, a label or an option is not valid.

        Example:
            >>> offsets = model.estimate_label_offsets(texts, ["sports", "cooking"])  # doctest: +SKIP
            >>> model.predict(texts, ["sports", "cooking"], label_offsets=offsets)  # doctest: +SKIP
        """
        wanted = read_options({**options, "label_offsets": {}})  # what does not go with offsets is refused here too
        texts = check_texts(texts)
        different = list(dict.fromkeys(texts))
        labels = read_candidates(candidate_labels)
        check_numbers(len(different), len(labels.names))
        if len(different) < FEW_TEXTS:
            logger.warning(f"Label offsets of {len(different)} texts are rough; 200 or more say it better.")
        token_ids = self._require_tokenizer()(different, add_special_tokens=True, verbose=False)["input_ids"]
        scorer = CandidateScorer(self, wanted, batch_size=check_batch_size(batch_size), show_progress_bar=show_progress_bar)
        try:
            with use_precision(wanted.precision, self.device.type):
                scored = scorer.score(token_ids, [labels] * len(different), [wanted.multi_label] * len(different))
        except TextError as error:
            raise TextError(error.found, texts.index(different[error.position]), error.mend) from error
        logits = torch.stack([one.logits for one in scored])
        if labels.parents is None:
            warn_of_idle_labels(logits)
        return dict(zip(labels.names, _compute_among_siblings(logits, labels).tolist(), strict=True))

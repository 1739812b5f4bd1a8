"""One call: texts and labels in, what the options ask for out. The pipeline and `predict` differ in the shape only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .candidates_zeroshot import Candidates
from .decisions_zeroshot import build_hierarchy, check_company, check_names, decide, find_calibration, find_thresholds, judge
from .explain_zeroshot import explain_call
from .inputs_zeroshot import check_batch_size
from .offsets_zeroshot import find_offsets
from .options_zeroshot import CallOptions
from .pairwise_zeroshot import check_company_matters, compare_pairs
from .precision_zeroshot import use_precision
from .scoring_zeroshot import CandidateScorer, ScoredText

if TYPE_CHECKING:
    from .prediction_zeroshot import ZeroShotPrediction


@dataclass
class CallResult:
    """What a call says of one text.

    Args:
        names: Its labels, in the order asked for; of a hierarchy the leaves.
        scores: Of each, between 0 and 1.
        details: What the options add; the docs of [`CallOptions`] name the keys.
    """

    names: list[str]
    scores: torch.Tensor
    details: dict[str, Any]

    def rank(self, top_k: int | None) -> tuple[list[str], list[float]]:
        """Names and scores by falling score, all or the first `top_k`; equal scores keep their order."""
        scores, order = self.scores.sort(descending=True, stable=True)
        return [self.names[position] for position in order[:top_k].tolist()], scores[:top_k].tolist()

    def map_scores(self, top_k: int | None) -> dict[str, float]:
        """Scores by name, in the order asked for, or the first `top_k` by falling score."""
        names, scores = (self.names, self.scores.tolist()) if top_k is None else self.rank(top_k)
        return dict(zip(names, scores, strict=True))


class ZeroShotCall:
    """Classifies texts as one call says; arguments as those of [`CandidateScorer`]."""

    def __init__(
        self, model: "ZeroShotPrediction", options: CallOptions, *, batch_size: int = 64, show_progress_bar: bool = False
    ) -> None:
        self.model = model
        self.options = options
        self.calibration = find_calibration(options, model.config.calibration)
        if options.pairwise:
            check_company_matters(model)
        self.scorer = CandidateScorer(
            model, options, batch_size=check_batch_size(batch_size), show_progress_bar=show_progress_bar
        )

    def classify(
        self, texts: Sequence[str], token_ids: Sequence[list[int]], candidates: Sequence[Candidates]
    ) -> list[CallResult]:
        """Classify texts.

        Args:
            texts: B texts, none of them empty.
            token_ids: Their tokens, special tokens included, of any length.
            candidates: The labels of each.

        Raises:
            ValueError: If an option does not go with the labels, the model or the length of a text.
        """
        with use_precision(self.options.precision, self.model.device.type):
            return self._classify(texts, token_ids, candidates)

    def _classify(
        self, texts: Sequence[str], token_ids: Sequence[list[int]], candidates: Sequence[Candidates]
    ) -> list[CallResult]:
        for one in dict.fromkeys(candidates):
            check_names(self.options, one)
        # A single candidate is a yes-or-no question, also where the candidates of other texts share 1. A hierarchy is
        # never a single one: what is below a parent shares the parent's score.
        alone = [self.options.multi_label or (one.parents is None and len(one.names) == 1) for one in candidates]
        check_company(self.calibration, self.options, candidates, alone)
        matters = not self.model.independent_of_other_candidates
        offsets = {
            labels: find_offsets(self.options, labels, judged_alone=single, company_matters=matters)
            for labels, single in dict(zip(candidates, alone, strict=True)).items()
        }
        scored = self.scorer.score(token_ids, candidates, alone)
        scores = [
            judge(one.logits, offsets[labels], labels, judged_alone=single, calibration=self.calibration)
            for one, labels, single in zip(scored, candidates, alone, strict=True)
        ]
        if self.options.pairwise:
            scores = compare_pairs(self.scorer, token_ids, candidates, scores)
        results = [self._describe(*one) for one in zip(candidates, scores, scored, alone, strict=True)]
        if self.options.explain:
            for position, result in enumerate(results):
                labels = candidates[position]
                best = [labels.names.index(name) for name in result.rank(int(self.options.explain))[0]]
                ids, single = token_ids[position], alone[position]
                explained = explain_call(
                    self.scorer, texts[position], ids, labels, best, scored=scored[position], alone=single
                )
                result.details.update(explained)
        return results

    def _describe(self, candidates: Candidates, scores: torch.Tensor, scored: ScoredText, alone: bool) -> CallResult:
        options, leaves = self.options, candidates.leaves
        names, own = [candidates.names[leaf] for leaf in leaves], scores[leaves]
        details: dict[str, Any] = {}
        if options.return_hierarchical:
            details["hierarchy"] = build_hierarchy(candidates, scores.tolist())
        if (thresholds := find_thresholds(options, names, self.calibration)) is not None:
            details.update(decide(names, own, thresholds, options, judged_alone=alone))
        if scored.vector is not None:
            details["embedding"] = scored.vector.tolist()
        if scored.windows > 1:
            details["windows"] = scored.windows
        if options.overflow == "truncate":
            details["truncated"] = scored.truncated
        return CallResult(names, own, details)

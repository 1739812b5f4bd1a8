"""Close labels compared two at a time, for models in which the company of labels changes a score.

Labels whose score is at most `MARGIN` below the best one (at most `MOST` of them) meet each other in pairs, each pair
alone with the text. A label's strength is its mean chance to win, over its rivals j: mean_j sigmoid(z_i - z_j). The scores
of these labels are dealt out anew among them, the highest to the strongest; so they still share what they shared, and other
labels keep their scores. Ties keep their order.

Where the company of labels changes nothing (bi-encoder, poly-encoder, late interaction, cross-encoder and NLI, joint encoder
with isolation), z_i - z_j is the same in a pair as among all, so that nothing could come of the effort: the strongest is the
best already. There it is refused.

Source: pairwise coupling, Hastie and Tibshirani 1998 (https://doi.org/10.1214/aos/1028144844), whose first estimate of class
probabilities is this mean. We depart from it: it gives an order here, no probabilities.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from .candidates_zeroshot import Candidates
from .scoring_zeroshot import CandidateScorer

if TYPE_CHECKING:
    from .prediction_zeroshot import ZeroShotPrediction

MARGIN = 0.1
MOST = 6  # labels of one text, 15 pairs


def check_company_matters(model: "ZeroShotPrediction") -> None:
    """Refuse models in which two labels alone compare as they do among all.

    Raises:
        ValueError: If the model is one.
    """
    if model.independent_of_other_candidates:
        raise ValueError(
            "Expected a model in which the company of labels changes their scores for pairwise, found "
            f"{type(model).__name__}, which would give the same order two at a time. Leave pairwise out."
        )


def find_rivals(scores: torch.Tensor) -> list[int]:
    """Positions of the labels close to the best, by falling score; none where the best is alone.

    Example:
        >>> find_rivals(torch.tensor([0.1, 0.42, 0.05, 0.43]))
        [3, 1]
    """
    order = torch.argsort(scores, descending=True, stable=True)[:MOST].tolist()
    close = [position for position in order if scores[position] >= scores[order[0]] - MARGIN]
    return close if len(close) > 1 else []


def deal_out(scores: torch.Tensor, rivals: Sequence[int], wins: torch.Tensor) -> torch.Tensor:
    """Scores (n,) in which the rivals' own are dealt out by their strength.

    Args:
        scores: (n,).
        rivals: k positions, by falling score.
        wins: (k, k), how likely rival i wins over rival j; the diagonal does not count.

    Example:
        >>> deal_out(torch.tensor([0.4, 0.35, 0.25]), [0, 1], torch.tensor([[0.0, 0.3], [0.7, 0.0]]))
        tensor([0.3500, 0.4000, 0.2500])
    """
    strength = wins.fill_diagonal_(0).sum(dim=1) / (len(rivals) - 1)  # (k,)
    order = torch.argsort(strength, descending=True, stable=True).tolist()
    dealt = scores.clone()
    for place, winner in zip(rivals, order, strict=True):
        dealt[rivals[winner]] = scores[place]
    return dealt


def compare_pairs(
    scorer: CandidateScorer,
    token_ids: Sequence[list[int]],
    candidates: Sequence[Candidates],
    scores: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """Reorder the close labels of each text by comparing them two at a time; arguments have one entry a text."""
    rivals = [find_rivals(one) for one in scores]
    duels = [(row, i, j) for row, close in enumerate(rivals) for i, j in itertools.combinations(range(len(close)), 2)]
    fought = scorer.score(
        [token_ids[row] for row, _, _ in duels],
        [candidates[row].choose([rivals[row][i], rivals[row][j]]) for row, i, j in duels],
        [False] * len(duels),
    )
    wins = [torch.zeros(len(close), len(close)) for close in rivals]
    for (row, i, j), result in zip(duels, fought, strict=True):
        wins[row][i, j], wins[row][j, i] = result.logits.softmax(dim=0)
    return [deal_out(one, close, won) if close else one for one, close, won in zip(scores, rivals, wins, strict=True)]

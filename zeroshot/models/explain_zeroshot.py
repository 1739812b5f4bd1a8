"""Which words of a text speak for a label.

Where every label token is matched with one text token (late interaction), the logit is a sum over text tokens, and a word's
weight is the sum over its tokens: weights, the special tokens' part and the bias together are the logit.

Elsewhere a word's weight is what the logit loses when the word is left out, z(text) - z(text without it): occlusion, Zeiler
and Fergus 2014 (https://arxiv.org/abs/1311.2901), for words Li et al. 2016 (https://arxiv.org/abs/1612.08220). It costs a
pass a word, and two words that say the same hide each other.

Weights are in units of the logit. A positive one speaks for the label.

Of a text that is longer than the model reads, a label is explained by the window in which its logit is highest, of which the
whole words are weighed as a text of their own.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch

from .candidates_zeroshot import Candidates
from .inputs_zeroshot import pad
from .scoring_zeroshot import CandidateScorer, ScoredText

# What stands between white space; Chinese and Japanese, which have none, by the character.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\s\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
WordWeights = list[tuple[str, float]]


def find_words(tokenizer, text: str, part: tuple[int, int], most: int) -> tuple[int, int]:
    """From and to which character the whole words of a part of a text stand; of a part within one word, that part.

    Args:
        tokenizer: The encoder's tokenizer.
        text: The text.
        part: The first token of the part and the one behind its last.
        most: The most tokens of these words by themselves, special tokens aside.

    Raises:
        ValueError: If the tokenizer does not tell where in a text its tokens stand.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            "Expected a tokenizer that tells where its tokens stand, to explain a text that is not read whole, found "
            f"{type(tokenizer).__name__}. Explain parts of the text, each as a text."
        )
    offsets = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"][slice(*part)]
    first, last = offsets[0][0], offsets[-1][1]
    words = [match.span() for match in WORD.finditer(text) if first <= match.start() and match.end() <= last]
    begin = words[0][0] if words else first
    ends = [end for _, end in words or offsets]
    # The tokenizer may make more tokens of a word that begins a text, or is cut, than of the same within it.
    sizes = ((end, len(tokenizer(text[begin:end], add_special_tokens=False)["input_ids"])) for end in reversed(ends))
    return begin, next((end for end, size in sizes if size <= most), ends[0])


def explain_call(
    scorer: CandidateScorer,
    text: str,
    token_ids: list[int],
    candidates: Candidates,
    chosen: Sequence[int],
    *,
    scored: ScoredText,
    alone: bool,
) -> dict[str, Any]:
    """What `explain` adds to the result of a text.

    Args:
        scorer: That of the call.
        text: The text, of any length.
        token_ids: Its tokens.
        candidates: Its labels.
        chosen: Positions of the labels to explain.
        scored: What the scorer said of it.
        alone: Whether labels are judged one by one.

    Returns:
        `explanation`, `{name: [(word, weight), ...]}`; where the text was not read whole also `explained_spans`, from and
        to which character it speaks of, `{name: (start, end)}`.

    Raises:
        ValueError: If it was not read whole, and the tokenizer does not tell where in a text its tokens stand.
    """
    if not scored.parts:
        return {"explanation": explain_text(scorer, text, token_ids, candidates, chosen, alone=alone)}
    assert scored.best_windows is not None
    tokenizer = scorer.model._require_tokenizer()
    windows = scored.best_windows[list(chosen)].tolist()
    most = max(end - start for start, end in scored.parts)
    words = {window: find_words(tokenizer, text, scored.parts[window], most) for window in set(windows)}
    spans = {position: words[window] for position, window in zip(chosen, windows, strict=True)}
    weights: dict[str, WordWeights] = {}
    for span in dict.fromkeys(spans.values()):
        part, own = text[slice(*span)], [position for position in chosen if spans[position] == span]
        weights |= explain_text(scorer, part, tokenizer(part)["input_ids"], candidates, own, alone=alone)
    names = {candidates.names[position]: span for position, span in spans.items()}
    return {"explanation": {name: weights[name] for name in names}, "explained_spans": names}


def explain_text(
    scorer: CandidateScorer, text: str, token_ids: list[int], candidates: Candidates, chosen: Sequence[int], *, alone: bool
) -> dict[str, WordWeights]:
    """Weigh the words of one text.

    Args:
        scorer: That of the call.
        text: The text, which the model reads whole.
        token_ids: Its tokens.
        candidates: Its labels.
        chosen: Positions of the labels to explain.
        alone: Whether labels are judged one by one.

    Returns:
        `{name: [(word, weight), ...]}`, words in the order of the text.
    """
    words = [(match.group(), match.start(), match.end()) for match in WORD.finditer(text)]
    weights = _weigh_tokens(scorer, text, token_ids, candidates, chosen, words)
    if weights is None:
        weights = _occlude(scorer, text, candidates, chosen, words, alone=alone)
    return {
        candidates.names[position]: [(word, weight) for (word, _, _), weight in zip(words, column, strict=True)]
        for position, column in zip(chosen, weights.T.tolist(), strict=True)
    }


def _weigh_tokens(
    scorer: CandidateScorer,
    text: str,
    token_ids: list[int],
    candidates: Candidates,
    chosen: Sequence[int],
    words: Sequence[tuple[str, int, int]],
) -> torch.Tensor | None:
    """Weights (words, chosen) where the logit is a sum over text tokens; else None."""
    model = scorer.model
    tokenizer = model._require_tokenizer()
    if not tokenizer.is_fast:  # it does not tell where in the text a token stands
        return None
    [place] = scorer.find_columns([candidates.choose(chosen)])
    columns = [column for label in place for column in label]
    with model._inference():
        batch = pad(tokenizer, [token_ids]).to(model.device)
        texts = model.encode_text(batch["input_ids"], batch["attention_mask"])
        heat = model.weigh_tokens(texts, scorer.select_columns(columns))
    if heat is None:
        return None
    heat = heat[0].float().cpu().unflatten(1, (len(columns), -1)).mean(dim=2)  # (S, columns)
    offsets = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    weights = torch.zeros(len(words), len(columns))
    for row, (start, end) in enumerate(offsets):
        # Some tokenizers count the blank before a word as its own, so the token's end tells the word; (0, 0) is special.
        number = next((n for n, (_, first, last) in enumerate(words) if first < end <= last and start < end), None)
        if number is not None:
            weights[number] += heat[row]
    if all(len(label) == 1 for label in place):
        return weights
    totals, parts, at = heat.sum(dim=0), [], 0
    for label in place:
        own, total = weights[:, at : at + len(label)], totals[at : at + len(label)]
        best = scorer.options.phrasing_reduction == "max"
        parts.append(own[:, int(total.argmax())] if best else own.mean(dim=1))
        at += len(label)
    return torch.stack(parts, dim=1)


def _occlude(
    scorer: CandidateScorer,
    text: str,
    candidates: Candidates,
    chosen: Sequence[int],
    words: Sequence[tuple[str, int, int]],
    *,
    alone: bool,
) -> torch.Tensor:
    """Weights (words, chosen): what the logit loses without the word."""
    kept, columns = candidates, list(chosen)
    if scorer.model.independent_of_other_candidates:  # then the other labels need not be scored again
        kept, columns = candidates.choose(chosen), list(range(len(chosen)))
    texts = [text, *(text[:start] + text[end:] for _, start, end in words)]
    token_ids = scorer.model._require_tokenizer()(texts, verbose=False)["input_ids"]
    scored = scorer.score(token_ids, [kept] * len(texts), [alone] * len(texts))
    logits = torch.stack([one.logits[columns] for one in scored])  # (1 + words, chosen)
    return logits[:1] - logits[1:]

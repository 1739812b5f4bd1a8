"""Many labels: encoded once, kept in a folder, searched for the best few of a text.

    index = LabelIndex.build(model, labels)
    index.search(["The keeper tipped it over the bar."], top_k=3)    # [[("goalkeeping", 4.1), ...]]

Where a logit is a product of two vectors (`compared_vectors`), a label is the mean of its wordings' vectors, since the
mean over wordings of a product is the product with the mean: D numbers a label, whatever the templates. Up to `EXACT_LIMIT`
labels all are compared; beyond, FAISS proposes some that are then compared exactly, so that a logit is the model's in any
case and only a label can be missed. Architectures that compare token by token keep all features and are compared in full.
Those that read text and label together have nothing to keep, except a cascade's first stage.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..files import write_json
from ..models import ARCHITECTURES, ZeroShotPreTrainedModel
from ..models.candidates_zeroshot import read_candidates
from ..models.features_zeroshot import Features, concatenate_features
from ..models.fingerprints import Fingerprint, fingerprint_strings
from ..models.inputs_zeroshot import check_batch_size, check_candidate_labels, check_texts
from ..models.options_zeroshot import CallOptions
from ..models.scoring_zeroshot import CandidateScorer
from ..models.windows_zeroshot import fit_texts
from .approximate_search import import_faiss
from .index_files import (
    FORMAT,
    check_fingerprint,
    describe_source,
    fingerprint_vectors,
    load_source_model,
    read_json,
    read_settings,
)
from .stores import EXACT_LIMIT, FeatureStore, VectorStore, load_features, plan_removal

LABELS_PER_PART = 4096  # encoded together, sorted by length
TEXTS_PER_PART = 256
SETTINGS_FILE = "index.json"
LABELS_FILE = "labels.json"

Ranked = list[tuple[str, float]]  # labels with their logits, falling


def check_top_k(top_k: int) -> int:
    """Return the number of results.

    Raises:
        ValueError: If it is less than 1.
    """
    if top_k < 1:
        raise ValueError(f"Expected a top_k of at least 1, found {top_k}. Raise it.")
    return top_k


def average_wordings(model: ZeroShotPreTrainedModel, labels: Sequence[str], batch_size: int) -> torch.Tensor:
    """One vector per label, (N, D), float32, on the CPU, for architectures with `compared_vectors`."""
    features = model.encode_candidate_labels(labels, batch_size=batch_size)
    return features[str(model.compared_vectors)].unflatten(0, (len(labels), -1)).mean(dim=1).float().cpu()


def encode_labels(
    model: ZeroShotPreTrainedModel, labels: Sequence[str], *, batch_size: int = 256, show_progress_bar: bool = False
) -> Features:
    """What an index keeps of labels: `vectors` (N, D), or all features (N, T, ...) of T wordings."""
    parts = [labels[start : start + LABELS_PER_PART] for start in range(0, len(labels), LABELS_PER_PART)]
    with tqdm(total=len(labels), desc="Encoding", unit=" labels", disable=not show_progress_bar) as progress_bar:
        if model.compared_vectors is None:
            features = []
            for part in parts:
                encoded = model.encode_candidate_labels(part, batch_size=batch_size)
                features.append({name: rows.unflatten(0, (len(part), -1)).cpu() for name, rows in encoded.items()})
                progress_bar.update(len(part))
            return concatenate_features(features)
        # Filled part by part: a list of parts would take the memory twice while it is joined.
        vectors: torch.Tensor | None = None
        start = 0
        for part in parts:
            rows = average_wordings(model, part, batch_size)
            vectors = rows.new_empty(len(labels), rows.shape[1]) if vectors is None else vectors
            vectors[start : start + len(part)] = rows
            start += len(part)
            progress_bar.update(len(part))
    return {"vectors": vectors}  # type: ignore[dict-item]  # there is at least one part


class LabelIndex:
    """Labels of a model, see the module's text; made by [`build`] or [`load`].

    Args:
        model: The model.
        labels: N distinct names, whose rows in `store` stand in the same order.
        store: What is known of them.
    """

    def __init__(self, model: ZeroShotPreTrainedModel, labels: Sequence[str], store: VectorStore | FeatureStore):
        if len(labels) != len(store):
            raise ValueError(f"Expected a row for each of {len(labels)} labels, found {len(store)}. Build the index anew.")
        self.model = model
        self.store = store
        self._labels = list(labels)
        self._fingerprint = fingerprint_vectors(model)

    @classmethod
    def build(
        cls,
        model: ZeroShotPreTrainedModel,
        labels: Sequence[str],
        *,
        exact_limit: int = EXACT_LIMIT,
        batch_size: int = 256,
        show_progress_bar: bool = False,
    ) -> "LabelIndex":
        """Encode labels in the model's templates.

        Args:
            model: The model.
            labels: Distinct names.
            exact_limit: Beyond so many labels FAISS proposes those that are compared.
            batch_size: Rows per pass of the encoder.
            show_progress_bar: Whether to show labels done, labels/s and the time left.

        Raises:
            ImportError: If there are more labels than `exact_limit` and the extra `index` is not installed.
            TypeError: If a label is not a string.
            ValueError: If labels are missing, empty or repeated; the architecture keeps nothing of a label; or it can only
                compare all and there are more than `exact_limit`.
        """
        labels = check_candidate_labels(labels)
        check_architecture(model)
        check_count(model, len(labels), exact_limit)
        features = encode_labels(model, labels, batch_size=check_batch_size(batch_size), show_progress_bar=show_progress_bar)
        if model.compared_vectors is None:
            return cls(model, labels, FeatureStore(model, features, exact_limit))
        return cls(model, labels, VectorStore(features["vectors"], exact_limit))

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> list[str]:
        """The names; where some were removed, the last ones took their places."""
        return list(self._labels)

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the model, by part, and of the labels in their order."""
        return {**self._fingerprint, "labels": fingerprint_strings(self._labels)}

    def add(self, labels: Sequence[str], *, batch_size: int = 256) -> None:
        """Encode further labels; those that are there are not encoded again.

        Raises:
            ValueError: If a label is there already, or the model has changed since the index was built.
        """
        labels = check_candidate_labels(labels)
        present = set(self._labels)
        known = [label for label in labels if label in present]
        if known:
            raise ValueError(f"Expected new labels, found {known[0]!r}, which is in the index. Leave it out.")
        check_fingerprint(self._fingerprint, fingerprint_vectors(self.model))
        check_count(self.model, len(self) + len(labels), self.store.exact_limit)
        features = encode_labels(self.model, labels, batch_size=check_batch_size(batch_size))
        if isinstance(self.store, VectorStore):
            self.store.add(features["vectors"])
        else:
            self.store.add(features)
        self._labels += labels

    def remove(self, labels: Sequence[str]) -> None:
        """Forget labels; nothing is encoded.

        Raises:
            ValueError: If a label is not there, or none would be left.
        """
        labels = check_candidate_labels(labels)
        position_of = {label: position for position, label in enumerate(self._labels)}
        unknown = [label for label in labels if label not in position_of]
        if unknown:
            raise ValueError(f"Expected labels of the index, found {unknown[0]!r}, which is not there. Leave it out.")
        if len(labels) == len(self):
            raise ValueError(f"Expected a label to stay, found all {len(self)} to be removed. Build another index.")
        removed = torch.tensor([position_of[label] for label in labels])
        gaps, movers = plan_removal(len(self), removed)
        self.store.move(gaps, movers, removed)
        for gap, mover in zip(gaps.tolist(), movers.tolist(), strict=True):
            self._labels[gap] = self._labels[mover]
        del self._labels[len(self) - len(labels) :]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self.model._require_tokenizer()(texts, add_special_tokens=True, verbose=False)["input_ids"]

    def _split(self, token_ids: Sequence[list[int]]) -> list[list[list[int]]]:
        """The windows of each text, as `predict` reads them; of most texts one."""
        limit = self.model.config.max_tokens
        fitted = fit_texts(self.model._require_tokenizer(), token_ids, [limit] * len(token_ids), limit, "split")
        return [fitted.token_ids[first:end] for first, end in fitted.spans]

    def _find(
        self, rows: list[list[int]], top_k: int, *, batch_size: int, exact: bool = False, pooled: bool = False
    ) -> list[Ranked]:
        """The best labels of each row of tokens, or of all rows together where they are windows of one text."""
        if not rows:
            return []
        vectors = self.model.compared_vectors
        features = self.model.encode_rows(rows, names=None if vectors is None else [vectors], batch_size=batch_size)
        if isinstance(self.store, VectorStore):
            queries = features[str(vectors)].float().cpu()
            products, positions = self.store.search(queries, top_k, exact=exact, pooled=pooled)
            with torch.no_grad():
                logits = self.model.scale_logits(products.to(self.model.device)).cpu()
        else:
            logits, positions = self.store.search(features, top_k, pooled=pooled)
        return [
            [(self._labels[place], logit) for place, logit in zip(places, row, strict=True)]
            for row, places in zip(logits.tolist(), positions.tolist(), strict=True)
        ]

    def _search(self, texts: Sequence[str], top_k: int, exact: bool, batch_size: int) -> Iterator[tuple[Ranked, int]]:
        """Per text the best labels, and in how many windows it was read."""
        for start in range(0, len(texts), TEXTS_PER_PART):
            windows = self._split(self._tokenize(texts[start : start + TEXTS_PER_PART]))
            short = [rows[0] for rows in windows if len(rows) == 1]
            found = iter(self._find(short, top_k, exact=exact, batch_size=batch_size))
            for rows in windows:
                if len(rows) == 1:
                    yield next(found), 1
                else:
                    yield self._find(rows, top_k, exact=exact, batch_size=batch_size, pooled=True)[0], len(rows)

    def search(self, texts: Sequence[str], top_k: int = 10, *, exact: bool = False, batch_size: int = 64) -> list[Ranked]:
        """Find the labels with the highest logits; those of the first stage where the model has two.

        Args:
            texts: B texts, none of them empty; a longer one than the model reads is read in windows, and a label has the
                highest logit of all of them.
            top_k: How many labels of each text; all where there are fewer.
            exact: Whether all labels are compared, however many there are.
            batch_size: Texts, or windows of them, per pass of the encoder.

        Returns:
            Per text (label, logit), by falling logit.

        Raises:
            TypeError: If a text is not a string.
            ValueError: If a text is empty, or `top_k` or `batch_size` is below 1.
        """
        texts, top_k = check_texts(texts), min(check_top_k(top_k), len(self))
        return [found for found, _ in self._search(texts, top_k, exact, check_batch_size(batch_size))]

    def predict(self, texts: Sequence[str], top_k: int = 10, *, batch_size: int = 64) -> list[dict]:
        """Classify texts, as the model's own `predict` with every label of the index and `multi_label=True`.

        A softmax would depend on `top_k`, so each label is judged by itself. Where the model has two stages, the second
        rescores its shortlist; for that the labels found are encoded once more.

        Returns:
            Per text `{"text": ..., "scores": {label: probability}}`, the `top_k` highest, falling; `windows` where a text
            was so long that it was read in several.
        """
        texts, top_k = check_texts(texts), min(check_top_k(top_k), len(self))
        check_batch_size(batch_size)
        if self.model.has_shortlist:
            found = self._search_both_stages(texts, top_k, batch_size)
        else:
            found = self._search(texts, top_k, False, batch_size)
        results = []
        for text, (labels, windows) in zip(texts, found, strict=True):
            scores = torch.tensor([logit for _, logit in labels]).sigmoid().tolist()
            result = {"text": text, "scores": {label: score for (label, _), score in zip(labels, scores, strict=True)}}
            results.append({**result, "windows": windows} if windows > 1 else result)
        return results

    def _search_both_stages(self, texts: Sequence[str], top_k: int, batch_size: int) -> Iterator[tuple[Ranked, int]]:
        # A label behind the shortlist keeps its first logit, and at most `top_k` of those can be among the best of a window.
        reach = min(top_k + self.model.config.shortlist_size, len(self))
        for start in range(0, len(texts), batch_size):
            token_ids = self._tokenize(texts[start : start + batch_size])
            windows = self._split(token_ids)
            found = iter(self._find([row for rows in windows for row in rows], reach, batch_size=batch_size))
            labels = [list(dict.fromkeys(label for _ in rows for label, _ in next(found))) for rows in windows]
            scorer = CandidateScorer(self.model, CallOptions(multi_label=True), batch_size=batch_size)
            candidates = [read_candidates(names) for names in labels]
            for names, scored in zip(labels, scorer.score(token_ids, candidates, [True] * len(labels)), strict=True):
                logits, columns = scored.logits.topk(top_k)
                ranked = [(names[column], logit) for column, logit in zip(columns.tolist(), logits.tolist(), strict=True)]
                yield ranked, scored.windows

    def save(self, folder: str | Path) -> None:
        """Write the index: tensors as safetensors, names and fingerprint as JSON, FAISS's lists where there are many.

        The settings are written last, so that a folder from which saving was interrupted is no index.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).unlink(missing_ok=True)
        self.store.save(folder)
        write_json(folder / LABELS_FILE, self._labels)
        settings = {
            "format": FORMAT,
            **describe_source(self.model, folder),
            **self.store.describe(),
            "fingerprint": self.fingerprint,
        }
        write_json(folder / SETTINGS_FILE, settings)

    @classmethod
    def load(cls, folder: str | Path, model: ZeroShotPreTrainedModel | None = None) -> "LabelIndex":
        """Read what [`save`] wrote.

        Args:
            folder: Of the index.
            model: The model it was built with; loaded from where it was then when left out.

        Raises:
            FileNotFoundError: If there is no index, or its model is gone.
            ValueError: If weights, tokenizer, templates, configuration or labels have changed since; the message says
                which. Or if a file is damaged.
        """
        folder = Path(folder)
        settings = read_settings(folder / SETTINGS_FILE)
        labels = read_json(folder / LABELS_FILE, list)
        model = load_source_model(settings, folder) if model is None else model
        check_fingerprint(
            settings["fingerprint"], {**fingerprint_vectors(model), "labels": fingerprint_strings(map(str, labels))}
        )
        if model.compared_vectors is None:
            return cls(model, labels, FeatureStore(model, load_features(folder), settings["exact_limit"]))
        return cls(
            model,
            labels,
            VectorStore.load(folder, exact_limit=settings["exact_limit"], trained_on=settings["trained_on"]),
        )


def check_architecture(model: ZeroShotPreTrainedModel) -> None:
    """Refuse a model that keeps nothing of a label by itself.

    Raises:
        ValueError: If it reads text and label together in its only stage.
    """
    if model.compared_vectors is None and model.pays_per_pair:
        able = [key for key, kind in ARCHITECTURES.items() if kind.compared_vectors is not None or not kind.pays_per_pair]
        raise ValueError(
            f"Expected an architecture that encodes labels by themselves ({', '.join(able)}), found "
            f"{type(model).__name__}, which reads every label together with every text. Choose another model, or call "
            "predict with few labels."
        )


def check_count(model: ZeroShotPreTrainedModel, count: int, exact_limit: int) -> None:
    """Refuse more labels than can be searched, before they are encoded.

    Raises:
        ImportError: If there are more than `exact_limit` and the extra `index` is not installed.
        ValueError: If there are more than `exact_limit` for an architecture that has to compare all of them.
    """
    if count <= exact_limit:
        return
    if model.compared_vectors is None:
        raise ValueError(
            f"Expected at most {exact_limit} labels for {type(model).__name__}, which compares every one with every text, "
            f"found {count}. Choose an architecture with one vector a label, or, in Python, raise exact_limit."
        )
    import_faiss()

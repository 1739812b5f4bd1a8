"""Distillation: the labels that an example brings are also scored by a teacher, which the model learns to agree with.

A teacher is any of our models or a published NLI classifier. Its scores are kept on disk by what they depend on (weights,
tokenizer and wordings of the teacher, text, label), so that a second run and a resumed one pay nothing.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging

from ..data import TrainingDataset, TrainingExample
from ..files import replace_file, write_json
from ..models import ARCHITECTURES, CrossEncoderForZeroShotClassification, ZeroShotPreTrainedModel
from ..models.features_zeroshot import count_rows, select_features
from ..models.fingerprints import fingerprint_model, fingerprint_strings
from ..models.loading import find_config, load_model
from .losses import distillation_loss

logger = logging.get_logger(__name__)

TEXTS_PER_CHUNK = 512  # what is scored between two writes to disk


def load_teacher(name: str) -> ZeroShotPreTrainedModel:
    """Load one of our models, or a published NLI classifier; code beside the weights is never run.

    Args:
        name: A folder or Hub id.

    Raises:
        FileNotFoundError: If there is no such model.
        ConnectionError: If the Hub cannot be reached and the model is not in the local cache.
        ValueError: If it is neither, or a file of it is damaged.
    """
    model_type = json.loads(find_config(name).read_text(encoding="utf-8")).get("model_type")
    if model_type in {architecture.config_class.model_type for architecture in ARCHITECTURES.values()}:
        return load_model(name)
    return CrossEncoderForZeroShotClassification.from_nli_checkpoint(name, encoder_kwargs={"trust_remote_code": False})


def hash_pairs(pairs: Iterable[tuple[str, str, bool]]) -> np.ndarray:
    """(text, label, whether the label is a sentence) as numbers, uint64; 10 million pairs collide once in 300,000 times."""
    digests = [hashlib.blake2b(json.dumps(pair, ensure_ascii=True).encode(), digest_size=8).digest() for pair in pairs]
    return np.frombuffer(b"".join(digests), dtype="<u8")


class ScoreCache:
    """Scores by the numbers of [`hash_pairs`], in files of a folder; what was written once is never changed.

    Args:
        folder: Made when the first scores are added.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.read_files: set[Path] = set()
        self.keys = np.empty(0, dtype=np.uint64)  # in rising order
        self.scores = np.empty(0, dtype=np.float32)
        self.reload()

    def reload(self) -> None:
        """Read files that are new in the folder."""
        for file in sorted(self.folder.glob("scores-*.safetensors")):
            if file not in self.read_files:
                part = load_file(file)
                self._merge(part["keys"], part["scores"])
                self.read_files.add(file)

    def _merge(self, keys: np.ndarray, scores: np.ndarray) -> None:
        # `unique` keeps the first of equal keys: what was known stays.
        self.keys, first = np.unique(np.concatenate([self.keys, keys]), return_index=True)
        self.scores = np.concatenate([self.scores, scores])[first]

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Scores of the same shape as `keys`, float32; not a number where there is none."""
        if not len(self.keys):
            return np.full(keys.shape, np.nan, dtype=np.float32)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.scores[places], np.float32(np.nan))

    def add(self, keys: np.ndarray, scores: np.ndarray) -> None:
        """Keep scores, in a file that is whole or not there."""
        file = self.folder / f"scores-{hashlib.sha256(keys.tobytes()).hexdigest()[:16]}.safetensors"
        with replace_file(file) as partial:
            save_file({"keys": keys, "scores": scores}, partial)
        self._merge(keys, scores)
        self.read_files.add(file)


class Teacher:
    """A model whose logits are computed once per pair.

    Args:
        model: The teacher, with its tokenizer; its logits are those for labels that are judged one by one, in its own
            wordings.
        folder: Where caches of teachers are; this one's is named by its fingerprint.
        name: What the user called it, for the note beside the scores.
        sentence_sources: Numbers of the sources whose labels are sentences, around which no wording is put.
    """

    def __init__(self, model: ZeroShotPreTrainedModel, folder: Path, name: str = "", sentence_sources: Iterable[int] = ()):
        self.model = model
        self.name = name
        self.fingerprint = fingerprint_strings(fingerprint_model(model).values())[:32]
        self.cache = ScoreCache(folder / self.fingerprint)
        self.sentence_sources = frozenset(sentence_sources)

    def __getstate__(self) -> dict:
        """What a worker of a data loader needs: the scores, not the model."""
        return {**self.__dict__, "model": None}

    def list_pairs(self, example: TrainingExample) -> list[tuple[str, str, bool]]:
        """The pairs of an example that the teacher scores: its text with every label that it brings, but for denials.

        They are new in every epoch, and the teacher may read them no better than the student does.
        """
        sentences = example["source"] in self.sentence_sources
        names = dict.fromkeys(example["positives"] + example["negatives"])
        return [(example["text"], name, sentences) for name in names if name not in example["denials"]]

    def score(
        self,
        examples: Iterable[TrainingExample],
        *,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> int:
        """Score the pairs that are not in the cache yet; returns how many those were.

        What is scored together follows from the examples and from the cache at the beginning, so that a run that was
        interrupted amid this call gets the same scores, bit by bit.

        Args:
            examples: The same in every process.
            batch_size: Texts per pass of the encoder.
            show_progress_bar: Whether to show pairs done and the time left.
            share: This process and how many there are; each takes every so many-th chunk of texts.
        """
        self.cache.reload()
        wanted: dict[tuple[str, bool], dict[str, None]] = {}
        for example in examples:
            for text, label, sentences in self.list_pairs(example):
                wanted.setdefault((text, sentences), {})[label] = None
        scored = 0
        for sentences in (False, True):
            own = {text: list(labels) for (text, kind), labels in wanted.items() if kind == sentences}
            scored += self._score_kind(own, sentences, batch_size, show_progress_bar, share)
        return scored

    def _score_kind(
        self,
        wanted: dict[str, list[str]],
        sentences: bool,
        batch_size: int,
        show_progress_bar: bool,
        share: tuple[int, int],
    ) -> int:
        keys = {text: hash_pairs((text, label, sentences) for label in labels) for text, labels in wanted.items()}
        missing = {text: np.isnan(self.cache.find(own)) for text, own in keys.items()}
        texts = list(wanted)
        starts = range(share[0] * TEXTS_PER_CHUNK, len(texts), share[1] * TEXTS_PER_CHUNK)
        count = int(sum(missing[text].sum() for start in starts for text in texts[start : start + TEXTS_PER_CHUNK]))
        if not count:
            return 0
        labels = list(dict.fromkeys(label for names in wanted.values() for label in names))
        place = {label: number for number, label in enumerate(labels)}
        features = self.model.encode_candidate_labels(labels, ["{}"] if sentences else None)
        self._warn_of_cut_texts([text for start in starts for text in texts[start : start + TEXTS_PER_CHUNK]], features)
        wordings = count_rows(features) // len(labels)
        device = next(iter(features.values())).device
        with tqdm(total=count, desc="Asking the teacher", unit=" pairs", disable=not show_progress_bar) as progress_bar:
            for start in starts:
                chunk = [text for text in texts[start : start + TEXTS_PER_CHUNK] if missing[text].any()]
                if not chunk:
                    continue
                names = list(dict.fromkeys(label for text in chunk for label in wanted[text]))
                column = {label: number for number, label in enumerate(names)}
                mask = torch.zeros(len(chunk), len(names), dtype=torch.bool)  # (B, N)
                for row, text in enumerate(chunk):
                    mask[row, [column[label] for label in np.array(wanted[text], dtype=object)[missing[text]]]] = True
                firsts = torch.tensor([place[label] for label in names]).unsqueeze(1) * wordings
                rows = (firsts + torch.arange(wordings)).flatten().to(device)
                grid = self._score_grid(chunk, select_features(features, rows), mask, batch_size)
                found = [
                    grid[row, [column[label] for label in np.array(wanted[text], dtype=object)[missing[text]]]]
                    for row, text in enumerate(chunk)
                ]
                self._keep(np.concatenate([keys[text][missing[text]] for text in chunk]), np.concatenate(found))
                progress_bar.update(int(mask.sum()))
        return count

    def _warn_of_cut_texts(self, texts: Sequence[str], features: dict) -> None:
        """The trainer counts what the student cuts; a teacher may read less."""
        room = int(self.model.count_room(features).min())
        lengths = [len(ids) for ids in self.model._require_tokenizer()(list(texts), verbose=False)["input_ids"]]
        if too_long := sum(length > room for length in lengths):
            logger.warning(
                f"{too_long} of {len(texts)} texts are longer than the {room} tokens that the teacher reads beside the "
                "longest label and are cut for it. A teacher that reads more judges them better."
            )

    def _score_grid(self, texts: Sequence[str], features: dict, mask: torch.Tensor, batch_size: int) -> np.ndarray:
        """Logits (B, N), float32, of the pairs in `mask`."""
        logits = self.model.score_texts(
            texts,
            features,
            mask.shape[1],
            multi_label=True,  # the logit of a pair must not depend on which other labels are asked about
            candidate_mask=mask,
            batch_size=batch_size,
            overflow="cut",
        )
        return logits.float().numpy()

    def _keep(self, keys: np.ndarray, scores: np.ndarray) -> None:
        self.cache.add(keys, scores.astype(np.float32))
        note = {
            "teacher": self.name,
            "fingerprint": self.fingerprint,
            "class_templates": list(self.model.config.class_templates),
        }
        write_json(self.cache.folder / "teacher.json", note)

    def build_grid(self, examples: Sequence[TrainingExample], classes: Sequence[str]) -> dict[str, torch.Tensor]:
        """`teacher_logits` (B, N), float32: not a number where the teacher was not asked. See `ZeroShotCollator.extras`."""
        column = {name: position for position, name in enumerate(classes)}
        grid = torch.full((len(examples), len(classes)), torch.nan)
        for row, example in enumerate(examples):
            pairs = self.list_pairs(example)
            keys = hash_pairs(pairs)
            scores = self.cache.find(keys)
            if np.isnan(scores).any():  # a worker that was started before these were scored
                self.cache.reload()
                scores = self.cache.find(keys)
            if np.isnan(scores).any():
                raise ValueError(
                    f"Expected the teacher's scores of all labels of {example['text'][:80]!r}, found none for some in "
                    f"{str(self.cache.folder)!r}. Let the teacher score the examples first; keep the folder while training."
                )
            grid[row, [column[name] for _, name, _ in pairs]] = torch.from_numpy(scores)
        return {"teacher_logits": grid}


class TeacherCallback(TrainerCallback):
    """Ask the teacher, before an epoch begins, about every pair that the epoch will bring.

    Args:
        teacher: Who is asked.
        dataset: Where the examples come from.
        read_order: Gives the order of the examples in the epoch.
    """

    def __init__(self, teacher: Teacher, dataset: TrainingDataset, read_order: Callable[[], Iterable]):
        self.teacher = teacher
        self.dataset = dataset
        self.read_order = read_order

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Called before the epoch's batches are drawn."""
        order = list(self.read_order())
        batch_size = args.train_batch_size * args.world_size  # read here: a trial of a search may vary it
        per_step = batch_size * args.gradient_accumulation_steps
        steps_per_epoch = max(-(-len(order) // per_step), 1)
        begun = state.global_step // steps_per_epoch * steps_per_epoch
        wanted = max(state.max_steps - begun, 0) * per_step + batch_size * args.batches_ahead
        examples = [self.dataset[index] for index in islice(order, wanted)]
        ask = partial(
            self.teacher.score,
            examples,
            batch_size=args.per_device_eval_batch_size,
            show_progress_bar=not (args.disable_tqdm or args.process_index),
        )
        # Each asks about its share: were one to ask for all, the others' wait would end in ddp_timeout.
        count = ask(share=(args.process_index, args.world_size))
        if args.world_size > 1:
            args.distributed_state.wait_for_everyone()
            with args.main_process_first(local=True, desc="asking the teacher"):
                count += ask()  # what a machine without the others' folder does not know yet
        alone = sum(len(self.teacher.list_pairs(example)) < 2 for example in examples)
        logger.info(f"The teacher scored {count} pairs; its scores are in {self.teacher.cache.folder}.")
        if alone:
            logger.warning(
                f"{alone} of {len(examples)} examples bring one label only, about which a teacher says nothing "
                "(--num_negatives, --hard_negatives)."
            )


def margin_mse_loss(
    student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, scored: torch.Tensor
) -> torch.Tensor:
    """Squared difference between the margins of two models, of what holds over what does not.

    Args:
        student: (B, N), float, with gradient.
        teacher: (B, N), float; no gradient flows into it.
        targets: (B, N): 1, 0 or -100.
        scored: (B, N) bool, where both logits mean something.

    Returns:
        The mean over all (text, positive, negative) of the batch, shape (); 0 where there are none.

    References:
        https://arxiv.org/abs/2010.02666. Departure: all positives with all negatives of a text, not one of each.
    """
    gap = (student - teacher.detach()).masked_fill(~scored, 0.0)  # (B, N)
    positive, negative = (targets == 1) & scored, (targets == 0) & scored
    texts, _ = positive.nonzero(as_tuple=True)  # (K,)
    errors = (gap[positive].unsqueeze(1) - gap[texts]).square()  # (K, N)
    pairs = negative[texts]
    return errors.masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp(min=1)


def teach(
    kind: str, student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, scored: torch.Tensor | None
) -> torch.Tensor:
    """The loss against a teacher: `kl` or `margin_mse`, over the pairs that it scored; arguments as above.

    Args:
        kind: `kl` or `margin_mse`.
        student: (B, N), float, with gradient.
        teacher: (B, N), float, not a number where it was not asked.
        targets: (B, N): 1, 0 or -100.
        scored: (B, N) bool, where the student's logits mean something; everywhere when None.
    """
    known = ~teacher.isnan() if scored is None else ~teacher.isnan() & scored
    filled = teacher.masked_fill(~known, 0.0)
    if kind == "kl":
        return distillation_loss(student, filled, known)
    return margin_mse_loss(student, filled, targets, known)

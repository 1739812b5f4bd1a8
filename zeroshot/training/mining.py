"""Hard negatives: labels that the model of this moment takes for likely and that do not hold.

From a closed label set every label that a row does not have is a candidate. Where rows are labelled freely, another row's
label may hold here too: it is a candidate only if its logit is at least a margin below that of the row's lowest positive.
What the training sources do not carry is never a candidate, so that no label of an evaluation set alone is seen.

Source: positive-aware mining of hard negatives, NV-Retriever, https://arxiv.org/abs/2407.15831 (its filter by a margin);
mining anew while training, ANCE, https://arxiv.org/abs/2007.00808. Departure: the margin is one of logits, and negatives
are drawn from the `top_k` highest, not the highest themselves, among which most false negatives are.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.utils import broadcast
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging

from ..data import TrainingDataset, normalize_text
from ..data.negatives import MinedNegatives
from ..files import replace_file
from ..models import ZeroShotPreTrainedModel
from ..models.features_zeroshot import Features, count_rows, select_features
from .arguments import ZeroShotTrainingArguments

logger = logging.get_logger(__name__)

TEXTS_PER_CHUNK = 1024  # bounds the grid of texts and labels that is held at once
FOLDER = "mined_negatives"


class HardNegativeMiner:
    """Find the labels of the training sources that are nearest to each text and do not hold.

    Args:
        dataset: Whose texts and labels are mined.
        top_k: Most labels per text.
        margin: See the module's text, in units of the logits.
        max_candidates: Most labels that a text is scored against (a seeded draw); all when None.
        seed: Decides that draw, together with the number of the mining.
    """

    def __init__(
        self, dataset: TrainingDataset, *, top_k: int, margin: float, max_candidates: int | None = None, seed: int = 0
    ):
        self.top_k = top_k
        self.margin = margin
        self.max_candidates = max_candidates
        self.seed = seed
        self.closed = [pool is not None for pool in dataset.pools]
        self.sentence_sources = frozenset(dataset.sentence_sources)
        self.texts: list[list[str]] = [[] for _ in dataset.pools]  # by source
        self.positives: list[list[list[str]]] = [[] for _ in dataset.pools]
        self.known: dict[str, set[str]] = {}  # normalised: every label that was judged for a text, in any row
        candidates: list[dict[str, None]] = [{} for _ in dataset.pools]
        places: dict[tuple[int, str], int] = {}
        example_places = []
        columns = (dataset.rows[name][:] for name in ("source", "text", "labels", "negatives"))
        for source, text, labels, negatives in zip(*columns, strict=True):
            if (source, text) not in places:
                places[source, text] = len(self.texts[source])
                self.texts[source].append(text)
                self.positives[source].append(labels)
                self.known.setdefault(normalize_text(text), set()).update(map(normalize_text, labels + negatives))
                candidates[source].update(dict.fromkeys(labels + negatives))
            else:  # a text twice in one source: what holds in either row holds
                place = places[source, text]
                self.positives[source][place] = list(dict.fromkeys(self.positives[source][place] + labels))
                self.known[normalize_text(text)].update(map(normalize_text, labels + negatives))
                candidates[source].update(dict.fromkeys(labels + negatives))
            example_places.append((source, places[source, text]))
        self.candidates = [list(names) for names in candidates]
        names = dict.fromkeys(name for own in self.candidates for name in own)
        self.number = {name: number for number, name in enumerate(names)}
        starts = [sum(len(texts) for texts in self.texts[:source]) for source in range(len(self.texts))]
        self.example_rows = [starts[source] + place for source, place in example_places]
        self.names = list(names)

    def build_table(self) -> MinedNegatives:
        """An empty table for what will be mined."""
        return MinedNegatives(self.names, self.example_rows, self.top_k)

    def mine(
        self, model: ZeroShotPreTrainedModel, mining: int = 0, *, batch_size: int = 64, show_progress_bar: bool = False
    ) -> torch.Tensor:
        """Score all texts against their candidates; each label is encoded once.

        Args:
            model: In any mode; it comes back as it was.
            mining: Which mining of the run this is.
            batch_size: Texts per pass of the encoder.
            show_progress_bar: Whether to show texts done and the time left.

        Returns:
            (texts, top_k) int32: numbers of labels in `names`, the highest logit first, -1 where there are no more.
        """
        texts = sum(len(one) for one in self.texts)
        table = torch.full((texts, self.top_k), -1, dtype=torch.int32)
        encoded = {
            sentences: self._encode_labels(model, sentences)
            for sentences in {source in self.sentence_sources for source in range(len(self.texts))}
        }
        start = 0
        with tqdm(total=texts, desc="Mining negatives", unit=" texts", disable=not show_progress_bar) as progress_bar:
            for source, own in enumerate(self.texts):
                features = self._pick_labels(*encoded[source in self.sentence_sources], source) if own else {}
                for first in range(0, len(own), TEXTS_PER_CHUNK):
                    rows = range(first, min(first + TEXTS_PER_CHUNK, len(own)))
                    found = self._mine_chunk(model, features, source, rows, mining, batch_size)
                    table[start + first : start + first + len(rows), : found.shape[1]] = found
                    progress_bar.update(len(rows))
                start += len(own)
        return table

    def _encode_labels(self, model: ZeroShotPreTrainedModel, sentences: bool) -> tuple[Features, dict[str, int]]:
        """Features of the distinct labels that are sentences, or of those that are not, and the place of each."""
        own = [names for source, names in enumerate(self.candidates) if (source in self.sentence_sources) == sentences]
        place = {name: number for number, name in enumerate(dict.fromkeys(name for names in own for name in names))}
        if not place:
            return {}, place
        return model.encode_candidate_labels(list(place), ["{}"] if sentences else None), place

    def _pick_labels(self, features: Features, place: dict[str, int], source: int) -> Features:
        wordings = count_rows(features) // len(place)
        firsts = torch.tensor([place[name] for name in self.candidates[source]]) * wordings
        rows = (firsts.unsqueeze(1) + torch.arange(wordings)).flatten()  # the wordings of a label side by side
        return select_features(features, rows.to(next(iter(features.values())).device))

    def _mine_chunk(
        self,
        model: ZeroShotPreTrainedModel,
        features: Features,
        source: int,
        rows: range,
        mining: int,
        batch_size: int,
    ) -> torch.Tensor:
        """Numbers of labels, (rows, at most top_k) int32, -1 for none."""
        names = self.candidates[source]
        column = {name: position for position, name in enumerate(names)}
        folded: dict[str, list[int]] = {}
        for position, name in enumerate(names):
            folded.setdefault(normalize_text(name), []).append(position)
        holds = torch.zeros(len(rows), len(names), dtype=torch.bool)  # (B, N)
        wanted = torch.zeros_like(holds)
        for place, row in enumerate(rows):
            holds[place, [column[name] for name in self.positives[source][row]]] = True
            wanted[place] = self._draw_candidates(len(names), f"{self.seed}-{mining}-{source}-{row}")
            judged = self.known[normalize_text(self.texts[source][row])]
            wanted[place, [position for name in judged for position in folded.get(name, ())]] = False
        logits = model.score_texts(
            [self.texts[source][row] for row in rows],
            features,
            len(names),
            multi_label=True,  # a mined label is judged by itself, as in training
            candidate_mask=None if (wanted | holds).all() else wanted | holds,
            batch_size=batch_size,
            overflow="cut",
        )
        if not self.closed[source]:
            lowest = logits.masked_fill(~holds, torch.inf).amin(dim=1, keepdim=True)  # (B, 1)
            wanted &= lowest.isfinite() & (logits <= lowest - self.margin)
        highest = logits.masked_fill(~wanted, -torch.inf).topk(min(self.top_k, len(names)), dim=1)
        numbers = torch.tensor([self.number[name] for name in names], dtype=torch.int32)[highest.indices]
        return numbers.masked_fill(highest.values == -torch.inf, -1)

    def _draw_candidates(self, count: int, seed: str) -> torch.Tensor:
        """(N,) bool: which labels a text is scored against."""
        if self.max_candidates is None or count <= self.max_candidates:
            return torch.ones(count, dtype=torch.bool)
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[random.Random(seed).sample(range(count), self.max_candidates)] = True
        return chosen


class MiningCallback(TrainerCallback):
    """Mine at the start of every epoch, or every so many steps.

    What was mined is kept in `output_dir`, because a run that goes on from a checkpoint amid an epoch has later weights
    than those with which its negatives were found.

    Args:
        miner: Finds the negatives.
        table: Where the data set reads them.
        read_model: Gives the model with its weights of the moment.
        args: The training arguments.
    """

    def __init__(
        self,
        miner: HardNegativeMiner,
        table: MinedNegatives,
        read_model: Callable[[], ZeroShotPreTrainedModel],
        args: ZeroShotTrainingArguments,
    ):
        self.miner = miner
        self.table = table
        self.read_model = read_model
        self.args = args
        self.folder = Path(args.output_dir) / FOLDER
        self.interval = args.mining_steps if args.mining_strategy == "steps" else None
        self.begun = False

    def on_train_begin(self, args, state, control, **kwargs):
        """A run that begins knows no earlier minings, whatever lies in its folder."""
        self.begun = False
        if not state.global_step and not args.process_index and self.folder.is_dir():
            shutil.rmtree(self.folder)

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Called before the epoch's batches are drawn."""
        if self.interval is None:
            epoch = int((state.epoch or 0) + 1e-6)
            begins = abs((state.epoch or 0) - epoch) < 1e-6
            self._provide(epoch, slot=0, mine=begins, step=state.global_step)
        elif not self.begun:
            newest = state.global_step // self.interval
            if newest:
                self._provide(newest - 1, slot=newest - 1, mine=False, step=state.global_step)
            begins = state.global_step == newest * self.interval
            self._provide(newest, slot=newest, mine=begins, step=state.global_step)
        self.begun = True

    def on_step_end(self, args, state, control, **kwargs):
        """Called before a checkpoint is written."""
        if self.interval is not None and state.global_step % self.interval == 0 and state.global_step < state.max_steps:
            mining = state.global_step // self.interval
            self._provide(mining, slot=mining, mine=True, step=state.global_step)

    def _provide(self, mining: int, *, slot: int, mine: bool, step: int) -> None:
        """Bring a result into the table: from the file of an interrupted run, or from the model."""
        file = self.folder / f"mining-{mining:06d}.safetensors"
        first = self.args.process_index == 0
        rows = self.table.tables.shape[1:]
        if mine:
            with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
                mined = self.miner.mine(
                    self.read_model(),
                    mining,
                    batch_size=self.args.per_device_eval_batch_size,
                    show_progress_bar=first and not self.args.disable_tqdm,
                )
            if first:
                with replace_file(file) as partial:
                    save_file({"labels": mined}, partial)
                self._remove_old_files(step)
            found = (mined >= 0).any(dim=1).sum().item()
            logger.info(f"Mined negatives at step {step}: {found} of {len(mined)} texts have some.")
        elif first and not file.is_file():
            raise FileNotFoundError(
                f"Expected the mined negatives of this run in {str(file)!r}, found no such file. Start over with "
                "--resume never."
            )
        else:
            mined = load_file(file)["labels"] if first else torch.full(rows, -1, dtype=torch.int32)
        if self.args.world_size > 1:  # the same on every process, down to a tie that hardware breaks differently
            mined = broadcast(mined.to(self.args.device)).cpu()
        self.table.put(slot, mined)

    def _remove_old_files(self, step: int) -> None:
        """Keep what a run would need to go on from the oldest checkpoint."""
        if self.interval is None:
            return  # one an epoch
        checkpoints = [path.name[11:] for path in self.folder.parent.glob("checkpoint-*")]
        oldest = min([step, *(int(number) for number in checkpoints if number.isdigit())])
        for file in self.folder.glob("mining-*.safetensors"):
            if int(file.stem.split("-")[1]) < oldest // self.interval - 1:
                file.unlink()

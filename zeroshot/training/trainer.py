"""The Trainer: our losses, batches of like rows, evaluation with labels encoded once, checkpoints without pickles."""

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback, TrainerControl
from transformers.trainer_utils import HubStrategy, speed_metrics
from transformers.utils import logging

from ..data import EvaluationSet, TrainingDataset, ZeroShotCollator
from ..data.negations import DENIALS
from ..hub.runs import RunPublisher
from ..models import ZeroShotPreTrainedModel
from ..models.inputs_zeroshot import tokenize_classes
from ..models.packing_zeroshot import PACKED
from .arguments import ZeroShotTrainingArguments
from .guarded_trainer import GuardedTrainer
from .guards import ROWS, trace_examples
from .hooks import add_mining, add_teacher, choose_loss, mark_asked, order_examples, weigh_classes
from .lora import has_adapters, list_merged, save_trained
from .memory import keep_freed_memory
from .objective import BatchObjective
from .parameters import assign_rates, describe_trained
from .searching import init_model
from .sources import EpochSampler

logger = logging.get_logger(__name__)

FOR_THE_LOSS = frozenset({"class_weights", "teacher_logits", "asked"})  # entries of a batch that `forward` does not take


class EpochCallback(TrainerCallback):
    """Tell the epoch to whatever is drawn anew in each.

    accelerate's `DataLoader.set_epoch` reaches either the sampler or the data set, and neither of them in the epoch in
    which a run goes on from a checkpoint on several processes.
    """

    def __init__(self, *listeners: TrainingDataset | EpochSampler):
        self.listeners = list(listeners)

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Called before the epoch's batches are drawn."""
        epoch = int((state.epoch or 0) + 1e-6)
        for listener in self.listeners:
            listener.set_epoch(epoch)


def _check_best_metric(args: ZeroShotTrainingArguments, sets: EvaluationSet | dict[str, EvaluationSet] | None) -> None:
    """A misspelt metric would be noticed at the first evaluation only, maybe hours later."""
    if not args.load_best_model_at_end:
        return
    if not sets:
        raise ValueError(
            "Expected validation rows with load_best_model_at_end, found none. Set validation_files or validation_share."
        )
    names = ["mean", *sets] if isinstance(sets, dict) else []
    metric = (args.metric_for_best_model or "loss").removeprefix("eval_")
    if names and not metric.startswith(tuple(f"{name}_" for name in names)):
        raise ValueError(
            f"Expected metric_for_best_model to begin with one of {', '.join(f'eval_{name}_' for name in names)}, "
            f"found {args.metric_for_best_model!r}. eval_mean_mrr is the mean over all sets."
        )


def check_sharing(args: ZeroShotTrainingArguments) -> None:
    """Refuse what takes batches apart in another way than ours."""
    for name in ("split_batches", "dispatch_batches"):
        if getattr(args.accelerator_config, name):
            raise ValueError(
                f"Expected accelerator_config without {name}, found it on. Leave it out: every process reads the batch of "
                "all and takes its share."
            )


class ZeroShotTrainer(GuardedTrainer):
    """A `Trainer` for every architecture; what watches over a run is in [`GuardedTrainer`].

    Args:
        model: The model; its `tokenizer` must be set. None with `model_init`, which makes one for each trial of a search.
        args: [`ZeroShotTrainingArguments`].
        train_dataset: A [`TrainingDataset`].
        eval_dataset: One [`EvaluationSet`], or several by name.
        **kwargs: Passed to `Trainer` (`compute_metrics`, `callbacks`, `model_init`, ...). `compute_metrics` gets logits
            (B, N) as `predictions` and targets (B, N) with 1, 0, -100 as `label_ids`.
    """

    loss_is_scaled_for_ga = False  # the losses are means over a batch
    publisher: RunPublisher | None = None  # of the first process, where the run pushes

    def __init__(
        self,
        model: ZeroShotPreTrainedModel | None,
        args: ZeroShotTrainingArguments,
        train_dataset: TrainingDataset | None = None,
        eval_dataset: EvaluationSet | dict[str, EvaluationSet] | None = None,
        **kwargs: Any,
    ):
        if args.n_gpu > 1:
            raise ValueError(
                f"Expected one GPU per process, found {args.n_gpu} in this one: they would split the labels of a batch. "
                "Start with 'accelerate launch train.py ...', or choose one with CUDA_VISIBLE_DEVICES=0."
            )
        check_sharing(args)
        _check_best_metric(args, eval_dataset)
        given = model
        if model is None:
            model = init_model(kwargs.get("model_init"))
        if train_dataset is not None:
            kwargs.setdefault(
                "data_collator",
                ZeroShotCollator(
                    model.tokenizer,
                    model.config.max_tokens,
                    model.config.class_templates,
                    train_dataset.label_sets,
                    candidates_per_text=args.candidates_per_text if model.pays_per_pair else None,
                    sentence_sources=train_dataset.sentence_sources,
                    extras=[trace_examples, mark_asked, *weigh_classes(train_dataset, args.class_weight_cap)],
                    share=(args.process_index, args.world_size),
                ),
            )
        kwargs.setdefault("processing_class", model.tokenizer)
        super().__init__(given, args, train_dataset=train_dataset, eval_dataset=eval_dataset, **kwargs)
        self.loss = choose_loss(self.model, args)
        self.batches_without_positives: torch.Tensor | int = 0
        self.order: EpochSampler | None = None
        self._epoch_callback = EpochCallback(*([] if train_dataset is None else [train_dataset]))
        self.add_callback(self._epoch_callback)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))
        if train_dataset is not None:
            add_mining(self)
            add_teacher(self)
        kept = args.keep_freed_memory and args.device.type == "cpu" and keep_freed_memory()
        self._log_choices("kept for the next step" if kept else "left to the system")
        self._warn_of_idle_examples()

    def _log_choices(self, freed: str) -> None:
        """Say once what was chosen by itself, and by which setting it can be changed."""
        dtype = "bfloat16 autocast" if self.args.bf16 else "float16 autocast" if self.args.fp16 else "float32"
        attention = self.model.encoder.config._attn_implementation
        packed = "packed in one sequence" if attention == PACKED else "padded"
        waits = f" that wait {self.args.ddp_timeout} s for each other (--ddp_timeout)" if self.args.world_size > 1 else ""
        logger.info(
            f"Training on {self.args.device} in {dtype} (--precision), attention {attention} (--attn_implementation), "
            f"batches {packed} (--pack_batches), {'of like lengths' if self.args.batch_by_length else 'unsorted'} "
            f"(--batch_by_length), {'compiled' if self.args.torch_compile else 'not compiled'} (--torch_compile), "
            f"{self.args.dataloader_num_workers} workers that tokenise ahead (--dataloader_num_workers), optimizer "
            f"{self.args.optim.value} (--optim), loss {self.args.loss} (--loss), "
            f"freed memory {freed} (--keep_freed_memory), "
            f"{describe_trained(self.model)} (--freeze, --freeze_layers, --lora_rank), "
            f"{self.global_batch_size} texts a batch over {self.args.world_size} process(es){waits} "
            f"(--per_device_train_batch_size), {self.args.gradient_accumulation_steps} batch(es) a step."
        )

    def _warn_of_idle_examples(self) -> None:
        """Half of the premises of an NLI file entail nothing; say where that is a waste."""
        examples = [] if self.train_dataset is None else self.train_dataset.rows["positives"][:]
        idle = sum(not positives for positives in examples)
        if idle and not self.args.loss_judges_pairs:
            losses = " and ".join(self.args.loss_weights)
            logger.warning(
                f"{idle} of {len(examples)} training examples have no label that holds; {losses} learns nothing from them "
                "(--loss bce or sigmoid does)."
            )
        data = self.train_dataset
        if not examples or self.args.in_batch_margin is not None or data.hard_negatives or data.question_rate:
            return
        if lonely := data.count_without_negatives():
            logger.warning(
                f"{lonely} of {len(examples)} training examples have no label known not to hold; those of other freely "
                'labelled rows may hold. Set in_batch_margin, give rows "negatives", or put labels.json beside them.'
            )

    # -- training ----------------------------------------------------------------------------------------------------

    @property
    def global_batch_size(self) -> int:
        """Texts of a batch over all processes; its labels are each other's negatives."""
        return self._train_batch_size * self.args.world_size

    def get_train_dataloader(self):
        """Batches of all processes together, in each of them; the collator takes this process's share."""
        loader = self._get_dataloader(
            self.train_dataset, "Training", self.global_batch_size, self._get_train_sampler, is_training=True
        )
        if isinstance(loader.batch_sampler, BatchSamplerShard):  # accelerate would deal whole batches out to processes
            dealer = loader.batch_sampler
            dealer.num_processes, dealer.process_index, dealer.even_batches = 1, 0, False
        return loader

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of the batch of all processes, shape (); see [`BatchObjective`]. The outputs hold nothing else."""
        self.batches_without_positives += ~(inputs["labels"] == 1).any()
        extras = {name: value for name, value in inputs.items() if name in FOR_THE_LOSS}
        bare = self.accelerator.unwrap_model(model)
        bare.objective = partial(BatchObjective(self.args, self.loss), **extras)
        try:
            outputs = model(**{name: value for name, value in inputs.items() if name not in {*FOR_THE_LOSS, ROWS}})
        finally:
            bare.objective = None
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs, start_time=None):
        """Log, with how many batches since the last line held no label that is true of one of their texts."""
        if "loss" in logs:
            if count := int(self.batches_without_positives):
                logs["batches_without_positives"] = count
            self.batches_without_positives = 0
        super().log(logs, start_time)

    def call_model_init(self, trial=None):
        """The model of a trial; the loss may read its scale."""
        model = super().call_model_init(trial)
        self.loss = choose_loss(model, self.args)
        return model

    def _measure_lengths(self, dataset: TrainingDataset) -> list[int]:
        """Tokens per example; texts that will be cut are counted here, once."""
        labels = dict.fromkeys(name for names in dataset.rows["positives"] for name in names)
        labels.update(dict.fromkeys(name for names in dataset.rows["negatives"] for name in names))
        labels.update(dict.fromkeys(name for pool in dataset.pools for name in pool or ()))
        labels.update(dict.fromkeys(dataset.list_other_names()))
        counts = self._count_label_tokens(labels)  # a label that is too long must not end the run at some later step
        longest = sorted(dataset.deniable, key=lambda name: counts[name], reverse=True)[:1000]
        counts |= self._count_label_tokens(wording.format(name) for name in longest for wording in DENIALS)
        limit = self.model.config.max_tokens
        room = self.model.count_room_beside(max(counts.values(), default=0))
        token_ids = self.processing_class(dataset.rows["text"][:], verbose=False)["input_ids"]
        lengths = [len(ids) for ids in token_ids]
        too_long = sum(length > room for length in lengths)
        if too_long:
            beside = "" if room == limit else ", left beside the longest label,"
            logger.warning(
                f"{too_long} of {len(lengths)} training texts are longer than {room} tokens{beside} and are cut "
                "(--max_tokens)."
            )
        return [min(length, limit) for length in lengths]

    def _count_label_tokens(self, labels: Iterable[str]) -> dict[str, int]:
        """The most tokens of each label in a wording."""
        counts = dict.fromkeys(labels, 0)
        for template in self.model.config.class_templates:
            worded = [template.format(name) for name in counts]
            token_ids = tokenize_classes(self.processing_class, worded, self.model.config.max_tokens)
            counts = {name: max(count, len(ids)) for (name, count), ids in zip(counts.items(), token_ids, strict=True)}
        return counts

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        lengths = self._measure_lengths(dataset)
        self.order = order_examples(dataset, lengths if self.args.batch_by_length else [1] * len(lengths), self.args)
        self._epoch_callback.listeners.append(self.order)
        return self.order

    def create_optimizer(self, model=None):
        """Give the head and the layers their own learning rates."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new:
            target = self.model if model is None else model
            assign_rates(optimizer, target, self.args.head_learning_rate, self.args.layer_decay)
        return optimizer

    # -- evaluation --------------------------------------------------------------------------------------------------

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Measure on one evaluation set or on several by name; labels are encoded once per set.

        Returns:
            `<prefix>_loss`, what `compute_metrics` returned, and the speed. With sets by name the name is part of the
            prefix, and `<prefix>_mean_...` is the mean of each metric over the sets.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, dict):
            prefixes = [f"{metric_key_prefix}_{name}" for name in dataset]
            measured = [self._measure(one, prefix) for one, prefix in zip(dataset.values(), prefixes, strict=True)]
            # Set by set, because the name of one may be the beginning of another's.
            bare = [
                {key.removeprefix(f"{prefix}_"): value for key, value in one.items()}
                for one, prefix in zip(measured, prefixes, strict=True)
            ]
            means = {f"{metric_key_prefix}_mean_{key}": sum(one[key] for one in bare) / len(bare) for key in bare[0]}
            self.log(means)
            metrics = {key: value for one in (*measured, means) for key, value in one.items()}
        else:
            metrics = self._measure(dataset, metric_key_prefix)
        # Once for all sets: early stopping by a mean would not see it among the metrics of one set.
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _measure(self, dataset: EvaluationSet, metric_key_prefix: str) -> dict[str, float]:
        """Measure on one evaluation set and log it."""
        if not isinstance(dataset, EvaluationSet):
            raise TypeError(
                f"Expected an EvaluationSet, found {type(dataset).__name__}. "
                "Build it with build_evaluation_set(load_source(...))."
            )
        start = time.time()
        # The loss sees what training sees: a label judged by itself. Measures are of labels that share 1, as in `predict`.
        logits = self._score(dataset, multi_label=True)
        targets = torch.from_numpy(dataset.targets)
        metrics = {f"{metric_key_prefix}_loss": self.loss(logits, targets).item()}
        if self.compute_metrics is not None:
            if self.accelerator.unwrap_model(self.model).tells_alternatives_apart:
                logits = self._score(dataset, multi_label=False)
            computed = self.compute_metrics(EvalPrediction(predictions=logits.numpy(), label_ids=dataset.targets))
            metrics.update({f"{metric_key_prefix}_{name}": value for name, value in computed.items()})
        metrics.update(speed_metrics(metric_key_prefix, start, num_samples=len(dataset)))
        self.log(metrics)
        return metrics

    def _score(self, dataset: EvaluationSet, *, multi_label: bool) -> torch.Tensor:
        model = self.accelerator.unwrap_model(self.model)
        with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
            return model.predict_logits(
                dataset.texts,
                dataset.candidate_labels,
                multi_label=multi_label,
                candidate_mask=dataset.candidate_mask,
                batch_size=self.args.per_device_eval_batch_size,
            )

    # -- saving ------------------------------------------------------------------------------------------------------

    def _save(self, output_dir=None, state_dict=None):
        """Save what makes a checkpoint: weights, configuration, code, tokenizer. No `training_args.bin`: it is a pickle,
        and it can hold a token. Adapters are merged into the weights, so that every checkpoint loads like any other.
        """
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        adapted = has_adapters(self.model)
        self.model.save_pretrained(folder, state_dict=list_merged(self.model) if adapted else state_dict)
        if adapted:
            save_trained(self.model, folder)

    # -- publishing: by our own list of files, not by the stock one, which lacks the code and sends pickles -------------

    def init_hf_repo(self, token=None, private=None):
        """Find out whether the run may push where it is to, and make the repository; called where `push_to_hub` is set."""
        if self.is_world_process_zero():
            public = self.args.hub_private_repo is False if private is None else not private
            self.publisher = RunPublisher(
                self.args.hub_model_id or "",
                public=public,
                revision=self.args.hub_revision,
                waits=self.args.hub_always_push,
            )

    def _push_from_checkpoint(self, checkpoint_folder):
        if self.publisher is not None and self.args.hub_strategy == HubStrategy.EVERY_SAVE:
            self.publisher.push_checkpoint(Path(checkpoint_folder), self.state.global_step)

    def save_model(self, output_dir=None, _internal_call=False):
        """Save, and leave pushing to `push_to_hub`: what is measured after training is published with the model."""
        super().save_model(output_dir, _internal_call=True)

    def push_to_hub(self, commit_message: str | None = None) -> str:
        """Publish the model that lies in `output_dir`, with all checks.

        Returns:
            What was done, in words; nothing on other processes than the first.

        Raises:
            ValueError: If it cannot be published.
        """
        if self.publisher is None:
            self.init_hf_repo()
        return "" if self.publisher is None else self.publisher.finish(Path(self.args.output_dir), commit_message)


def copy_backbones(model: ZeroShotPreTrainedModel) -> list[dict[str, torch.Tensor]]:
    """Copies of the weights of the pretrained parts, to average with later."""
    return [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in model.backbones]


def average_weights(model: ZeroShotPreTrainedModel, initial: list[dict[str, torch.Tensor]], share: float) -> None:
    """Move the pretrained parts back towards their initial weights: `share * initial + (1 - share) * trained`.

    Robust fine-tuning by averaging (WiSE-FT, https://arxiv.org/abs/2109.01903): labels far from the training data lose
    less. Everything else stays as trained.

    Args:
        model: A trained model.
        initial: What [`copy_backbones`] gave before training.
        share: Between 0 and 1.
    """
    with torch.no_grad():
        for part, weights in zip(model.backbones, initial, strict=True):
            for name, tensor in part.state_dict().items():
                if tensor.is_floating_point():
                    tensor.lerp_(weights[name].to(tensor), share)

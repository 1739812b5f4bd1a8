"""What a recipe can say. A recipe is a YAML file whose keys are the fields below; the command line overrides it."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from transformers import TrainingArguments
from transformers.utils import logging

from ..json_text import parse_json
from ..models.inputs_zeroshot import check_candidate_labels, check_texts
from ..models.loading import DEFAULT_ENCODER
from ..models.precision_zeroshot import supports_bfloat16
from ..settings import COUNT, SHARE, Range, check_ranges, describe_field
from .losses import JUDGES_PAIRS, LOSSES, check_loss

logger = logging.get_logger(__name__)


FIXED: dict[str, Any] = {
    "remove_unused_columns": False,  # the collator needs columns that forward does not know
    "label_names": ["labels"],  # the Trainer finds the targets by this name
    "hub_token": None,  # it would be written to disk; tokens come from the environment
    "label_smoothing_factor": 0.0,  # the losses, the order of examples and the batches are ours: these would do nothing
    "train_sampling_strategy": "random",
    "dataloader_drop_last": False,
    "data_seed": None,
    "bf16_full_eval": False,  # and so is evaluation, which scores all pairs of a set under `precision`
    "fp16_full_eval": False,
    "prediction_loss_only": False,
    "eval_accumulation_steps": None,
    "eval_do_concat_batches": True,
    "eval_use_gather_object": False,
    "batch_eval_metrics": False,
    "include_for_metrics": [],
    "auto_find_batch_size": False,  # what is mined and asked before an epoch depends on the size of its batches
}


def _parse_json(value: str) -> Any:
    try:
        return parse_json(value)
    except ValueError:
        return None


def read_mapping(value: Any, name: str) -> Any:
    """A mapping that the command line gave as JSON; anything else as it is.

    Raises:
        ValueError: If it is text, and no JSON object.
    """
    if not isinstance(value, str):
        return value
    mapping = _parse_json(value)
    if not isinstance(mapping, dict):
        raise ValueError(f"""Expected a JSON object for {name}, found {value!r}. Write it like '{{"name": 1}}'.""")
    return mapping


def read_soup(value: Any) -> list[dict[str, Any]] | None:
    """The members of a soup, as a recipe's list or the command line's JSON; None where there are none.

    Raises:
        ValueError: If it is no list of two or more mappings.
    """
    if value is None or value == "":
        return None
    found = repr(value)
    try:
        members = parse_json(value) if isinstance(value, str) else value
    except ValueError as error:
        members, found = None, str(error)
    if not isinstance(members, list) or len(members) < 2 or not all(isinstance(member, dict) for member in members):
        raise ValueError(
            f"Expected two or more members of soup, each a mapping of settings, found {found}. "
            """Write it like '[{"seed": 1}, {"seed": 2}]'."""
        )
    return members


@dataclass
class ModelArguments:
    """Which model is trained."""

    architecture: str = describe_field("Key of the architecture; `zeroshot architectures` lists them.", "biencoder")
    encoder: str = describe_field("Folder or Hub id of the pretrained encoder.", DEFAULT_ENCODER)
    class_encoder: str | None = describe_field("Another one for the labels; they share the encoder when left out.", None)
    architecture_options: dict | str | None = describe_field(
        "Further fields of the architecture's configuration, as JSON.", None
    )
    class_templates: list[str] = describe_field("Wordings of a label, each with one {}.", ["{}"])
    dropout: Annotated[float | None, SHARE] = describe_field("Replaces every dropout rate of the encoder.", None)
    max_tokens: Annotated[int | None, COUNT] = describe_field(
        "Most tokens of a text or label; the encoder's limit when left out.", None
    )
    attn_implementation: str = describe_field(
        "auto, eager, sdpa or flash_attention_2. auto: eager on a CPU, else the model's own.", "auto"
    )

    def __post_init__(self):
        check_ranges(self)
        self.architecture_options = read_mapping(self.architecture_options, "architecture_options")


# Settings that name files of data.
FILE_SETTINGS = ("train_files", "validation_files", "zero_shot_files", "names_files")


@dataclass
class DataArguments:
    """What it is trained and measured on. Several files are separated by commas, or a list in YAML; `packaged:` names data
    in the package.
    """

    train_files: str = describe_field(
        "Rows to train on: .jsonl, .json, .csv, .parquet, Hub ids.", "packaged:topics/train.jsonl"
    )
    validation_files: str | None = describe_field("Rows that choose the best checkpoint.", None)
    zero_shot_files: str | None = describe_field(
        "Rows measured before and after; their labels are kept out of training.", None
    )
    zero_shot_label_share: Annotated[float, SHARE] = describe_field(
        "Share of the training labels to hold out where there are no zero_shot_files.", 0.0
    )
    validation_share: Annotated[float, SHARE] = describe_field(
        "Share of the texts to hold out where there are no validation_files.", 0.0
    )
    label_expansion: Literal["pairs", "rows"] = describe_field("One example per (text, label) pair, or per text.", "rows")
    num_negatives: Annotated[int, Range(0)] = describe_field(
        "Random negatives per example, drawn anew each epoch from a closed label set.", 0
    )
    hard_negatives: Annotated[int, Range(0)] = describe_field(
        "Negatives per example that are mined with the model while it trains (mining_strategy).", 0
    )
    negative_weights: dict | str | None = describe_field(
        "Weights of own, random and mined negatives, of which each example then brings num_negatives in all; its own ones "
        "and hard_negatives on top of num_negatives when left out.",
        None,
    )
    label_dropout: Annotated[float, SHARE] = describe_field(
        "Probability with which a label of an example stays out of its batch.", 0.0
    )
    question_rate: Annotated[float, SHARE] = describe_field(
        "Probability with which an example asks yes or no: one of its labels against that label denied ('not spam').", 0.0
    )
    names_files: str | None = describe_field(
        "Other names of the labels (.json, packaged:): one file for each training file in their order, 'none' where there "
        "is none, or one for all.",
        None,
    )
    name_weights: dict | str | None = describe_field(
        "How often a label of names_files is seen under its own name, one of the same meaning, a broader one; 1, 1 and 0 "
        "when left out.",
        None,
    )
    source_weights: list[float] = describe_field(
        "How much more often the rows of each training file are seen, in the order of train_files; all 1 when left out.", []
    )
    source_temperature: Annotated[float, COUNT] = describe_field(
        "Sizes of training files count to the power of its inverse: 1 as they are, a large one makes their shares equal.",
        1.0,
    )
    max_train_rows: Annotated[int | None, COUNT] = describe_field("Most rows of a training file (a seeded draw).", None)
    example_texts: list[str] = describe_field("Texts to classify when training has ended.", [])
    example_labels: list[str] = describe_field("Candidate labels for them.", [])

    def __post_init__(self):
        check_ranges(self)
        self.negative_weights = read_mapping(self.negative_weights, "negative_weights")
        self.name_weights = read_mapping(self.name_weights, "name_weights")
        if self.name_weights and not self.names_files:
            raise ValueError("Expected names_files with name_weights, found none. Name a file of other names too.")
        if self.example_texts:  # they are classified last of all, maybe hours later
            if not self.example_labels:
                raise ValueError(
                    "Expected example_labels with example_texts, found none. Name candidate labels for them, or leave the "
                    "texts out."
                )
            check_texts(self.example_texts)
            check_candidate_labels(self.example_labels)
        for weight in self.source_weights:
            if not 0 <= weight < math.inf:
                raise ValueError(f"Expected source_weights from 0 upwards, found {weight}. 0 leaves a file out.")


@dataclass
class ZeroShotTrainingArguments(TrainingArguments):
    """transformers' `TrainingArguments` with our defaults and the fields below."""

    output_dir: str = describe_field("Where checkpoints and the final model go.", "outputs/run")
    loss: dict | str | None = describe_field(
        f"Loss over the grid of texts and labels: {', '.join(LOSSES)}, or several with their weights.", "sigmoid"
    )
    triplet_margin: Annotated[float, Range(0)] = describe_field("Margin of the triplet loss, in cosines.", 0.2)
    triplet_negatives: Literal["all", "hardest", "semi-hard"] = describe_field(
        "Which negatives the triplet loss compares a positive with.", "all"
    )
    class_weight_cap: Annotated[float | None, COUNT] = describe_field(
        "Rare labels weigh more in bce and sigmoid, by inverse frequency up to this; all weigh the same when left out.", None
    )
    mining_strategy: Literal["epoch", "steps"] = describe_field(
        "When hard_negatives are mined: at the start of each epoch, or every mining_steps, used from the next interval on.",
        "epoch",
    )
    mining_steps: Annotated[int, COUNT] = describe_field("Steps between two minings.", 500)
    mining_top_k: Annotated[int, COUNT] = describe_field("Highest-scored labels from which hard_negatives are drawn.", 10)
    mining_margin: float = describe_field(
        "How far below a text's lowest positive a mined label's logit must be, where rows are labelled freely.", 1.0
    )
    mining_candidates: Annotated[int | None, COUNT] = describe_field(
        "Most labels that a text is mined from (a seeded draw); all when left out.", None
    )
    teacher: str | None = describe_field(
        "Folder or Hub id of a model to agree with: one of ours or an NLI classifier.", None
    )
    teacher_loss: Literal["kl", "margin_mse"] = describe_field("How disagreement is measured.", "kl")
    teacher_weight: Annotated[float, Range(0)] = describe_field("Weight of the disagreement.", 1.0)
    teacher_cache: str = describe_field("Folder of the teachers' scores, for all runs.", "outputs/teacher_scores")
    in_batch_margin: float | None = describe_field(
        "Unjudged pairs of a batch count as negatives if their logit is this far below the text's lowest positive.",
        None,
    )
    candidates_per_text: Annotated[int | None, Range(2)] = describe_field(
        "Most labels of a batch that a text is scored against, its own first, where every pair costs; all when left out.",
        None,
    )
    first_stage_weight: Annotated[float, Range(0)] = describe_field(
        "Of the first stage's own loss over all labels of the batch; for architectures with two stages.", 1.0
    )
    distillation_weight: Annotated[float, Range(0)] = describe_field(
        "Of the term by which the second stage teaches the first; 0 switches it off.", 0.0
    )
    gradient_cache_size: Annotated[int | None, COUNT] = describe_field(
        "Texts, and labels, per pass of the encoder, for one more forward pass a step; all at once when left out.",
        None,
    )
    head_learning_rate: Annotated[float | None, Range(0)] = describe_field(
        "Learning rate of all that is not the encoder (scale, bias).", None
    )
    layer_decay: Annotated[float | None, Range(0, highest=1)] = describe_field(
        "Learning rate of a layer as a share of that of the layer above it, such as 0.9; one rate for all when left out.",
        None,
    )
    freeze: list[str] = describe_field("Parts that stay as they are: encoder, class_encoder, embeddings, head.", [])
    freeze_layers: Annotated[int, Range(0)] = describe_field("Lowest layers of the encoder that stay as they are.", 0)
    lora_rank: Annotated[int | None, COUNT] = describe_field(
        "Rank of low-rank adapters, which are trained instead of the encoder; all of it is trained when left out.", None
    )
    lora_alpha: Annotated[int | None, COUNT] = describe_field(
        "Factor on the adapters, times lora_rank; twice the rank when left out.", None
    )
    lora_targets: list[str] = describe_field(
        "Ends of the names of linear maps that get an adapter, such as query; all in the layers when left out.", []
    )
    max_loss_ratio: Annotated[float | None, Range(1)] = describe_field(
        "A run stops at a loss this many times the median of the last 100; null lets every finite loss pass.", 100.0
    )
    loss_guard_steps: Annotated[int, COUNT] = describe_field("Batches before max_loss_ratio counts.", 50)
    precision: Literal["auto", "bf16", "fp32"] = describe_field("auto: bf16 where the hardware has it.", "auto")
    batch_by_source: bool = describe_field(
        "Whether a batch holds rows of one training file; those smaller than a batch are pooled.", True
    )
    batch_by_length: bool = describe_field("Whether a batch holds texts of like lengths, which saves padding.", True)
    pack_batches: Literal["auto", "always", "never"] = describe_field(
        "Texts and labels of a batch as one sequence without padding. auto: on a CPU, where the model allows it.", "auto"
    )
    keep_freed_memory: bool = describe_field(
        "On a CPU: whether the process keeps what a step frees for the next one, which saves time and no memory.", True
    )
    resume: Literal["auto", "never"] = describe_field("auto: an interrupted run with the same settings goes on.", "auto")
    early_stopping_patience: Annotated[int | None, COUNT] = describe_field(
        "Evaluations without a better metric_for_best_model until it stops.", None
    )
    initial_weight_share: Annotated[float, SHARE] = describe_field(
        "Share of the encoder's initial weights in the final ones, 0 to 1 (WiSE-FT).", 0.0
    )
    soup: list[dict] | str | None = describe_field(
        "Members of a model soup: settings over these; each trains by itself, and their weights are averaged.", None
    )
    per_device_train_batch_size: Annotated[int, COUNT] = describe_field("Texts per process and step.", 64)
    per_device_eval_batch_size: Annotated[int, COUNT] = describe_field("Texts per pass when measuring.", 64)
    learning_rate: Annotated[float, Range(0)] = describe_field("Peak learning rate of the encoder.", 2e-5)
    warmup_steps: float = describe_field("Steps, or a share of all steps, until the peak is reached.", 0.1)
    lr_scheduler_type: str = describe_field("Schedule after the warm-up.", "cosine")
    weight_decay: float = describe_field("Weight decay.", 0.01)
    logging_steps: float = describe_field("Steps between two lines of the log.", 25)
    restore_callback_states_from_checkpoint: bool = describe_field(
        "Whether early stopping goes on counting after a resume.", True
    )
    hub_strategy: Literal["every_save", "end"] = describe_field(
        "With push_to_hub: every_save also pushes checkpoints while the run goes on.", "every_save"
    )
    hub_private_repo: bool | None = describe_field("With push_to_hub: false lets everybody see the model.", True)
    save_total_limit: int | None = describe_field("Most checkpoints kept, the best among them.", 2)
    remove_unused_columns: bool = describe_field("Fixed.", FIXED["remove_unused_columns"])
    label_names: list[str] | None = describe_field("Fixed.", FIXED["label_names"])

    def __post_init__(self):
        check_ranges(self)
        if isinstance(self.loss, str) and self.loss.lstrip().startswith("{"):
            self.loss = read_mapping(self.loss, "loss")
        self.soup = read_soup(self.soup)
        losses = check_loss(self.loss)
        if self.class_weight_cap is not None and not JUDGES_PAIRS & set(losses):
            raise ValueError(
                f"Expected bce or sigmoid among the losses with class_weight_cap, found {', '.join(losses)}. "
                "Leave one of the two out."
            )
        for name, value in FIXED.items():
            if getattr(self, name) != value:
                raise ValueError(f"Expected {name} to stay {value}, found {getattr(self, name)}. Leave it out.")
        if self.early_stopping_patience is not None and not self.load_best_model_at_end:
            raise ValueError(
                "Expected load_best_model_at_end with early_stopping_patience, found it off. "
                "Set load_best_model_at_end: true, eval_strategy and metric_for_best_model."
            )
        if self.pack_batches == "always" and self.gradient_cache_size is not None:
            raise ValueError(
                "Expected pack_batches auto or never with gradient_cache_size, whose passes are not packed, found always. "
                "Leave one of the two out."
            )
        if self.lora_rank is None and (self.lora_alpha is not None or self.lora_targets):
            raise ValueError("Expected lora_rank with lora_alpha or lora_targets, found none. Set it, or leave them out.")
        if self.push_to_hub and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub_model_id or ""):
            raise ValueError(
                f"Expected hub_model_id as user/name with push_to_hub, found {self.hub_model_id!r}. Say where to push."
            )
        if self.hub_strategy not in ("every_save", "end"):
            raise ValueError(
                f"Expected hub_strategy every_save or end, found {str(self.hub_strategy)!r}. The others would send the "
                "optimiser's state, which is a pickle and of use to nobody else."
            )
        if not torch.accelerator.is_available():
            self.use_cpu = True  # without it TrainingArguments refuses bf16
        if self.precision == "bf16" or (self.precision == "auto" and not self.fp16 and supports_bfloat16()):
            self.bf16 = True
        if self.precision == "fp32" and (self.bf16 or self.fp16):
            raise ValueError(
                f"Expected precision to agree with bf16 and fp16, found 'fp32' with {'bf16' if self.bf16 else 'fp16'} on. "
                "Leave one of the two out."
            )
        super().__post_init__()

    @property
    def members(self) -> list[dict[str, Any]]:
        """What each member of the soup sets over the recipe."""
        return read_soup(self.soup) or []

    @property
    def loss_weights(self) -> dict[str, float]:
        """The losses by name with their weights."""
        return check_loss(self.loss)

    @property
    def batches_ahead(self) -> int:
        """The most batches collated beyond that which is trained on: accelerate's one, and those of workers."""
        return self.dataloader_num_workers * (self.dataloader_prefetch_factor or 2) + 1

    @property
    def loss_judges_pairs(self) -> bool:
        """Whether a pair counts by itself in the loss, not only against others: such a loss trains the bias."""
        return bool(JUDGES_PAIRS & set(self.loss_weights))

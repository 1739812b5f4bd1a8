"""Configuration of the cross-encoder."""

import copy
import re

from .configuration_zeroshot import ZeroShotConfig, resolve_encoder_config

HEADS = ("binary", "nli")
NLI_LABELS = ("entailment", "neutral", "contradiction")
# What [`describe_pairs`] finds for BERT.
BERT_PAIRS = {
    "single_special_tokens": [1, 1],
    "prefix": [101],
    "separator": [102],
    "suffix": [102],
    "token_types": [0, 0, 0, 1, 1],
    "pad_token_id": 0,
}


def resolve_entailment(label2id: dict[str, int], entailment_id: int | None, contradiction_id: int | None) -> tuple[int, int]:
    """Find the outputs of an NLI head that judge a label: by number if given, else by the names of the classes.

    Where no class is named after contradiction, the stock pipeline's rule holds: the last one if entailment is the first,
    else the first.

    Args:
        label2id: Output numbers by name, as a classifier's configuration has them.
        entailment_id: Instead of the one class whose name begins with "entail", in any case.
        contradiction_id: Instead of the one class whose name begins with "contradict", in any case.

    Raises:
        ValueError: If no class or several fit, or a number is out of range.

    Example:
        >>> resolve_entailment({"CONTRADICTION": 0, "ENTAILMENT": 1, "NEUTRAL": 2}, None, None)
        (1, 0)
    """

    def find(argument: str, stem: str, given: int | None, default: int | None = None) -> int:
        if given is not None:
            if not 0 <= given < len(label2id):
                raise ValueError(
                    f"Expected {argument} from 0 to {len(label2id) - 1}, found {given}. Choose one of {label2id}."
                )
            return given
        found = [number for name, number in label2id.items() if name.lower().startswith(stem)]
        if not found and default is not None:
            return default
        if len(found) != 1:
            raise ValueError(
                f"Expected exactly one class whose name begins with {stem!r}, found {len(found)} in the label2id "
                f"{label2id}. Pass its number: {argument}=..."
            )
        return found[0]

    entailment = find("entailment_id", "entail", entailment_id)
    default = len(label2id) - 1 if entailment == 0 else 0
    contradiction = find("contradiction_id", "contradict", contradiction_id, default)
    if entailment == contradiction:
        raise ValueError(
            f"Expected two different classes for entailment and contradiction, found {entailment} for both. "
            "Pass entailment_id=... and contradiction_id=..."
        )
    return entailment, contradiction


def check_pair_layout(layout: dict) -> dict:
    """Return the layout of a pair if it holds what [`BERT_PAIRS`] holds.

    Raises:
        ValueError: If a part is missing, unknown or of another shape.
    """
    lists = {"single_special_tokens": 2, "prefix": None, "separator": None, "suffix": None}
    right = isinstance(layout, dict) and set(layout) == set(BERT_PAIRS) and isinstance(layout["pad_token_id"], int)
    right = right and all(
        isinstance(layout[name], list) and length in (None, len(layout[name])) for name, length in lists.items()
    )
    if not right or (layout["token_types"] is not None and len(layout["token_types"]) != 5):
        raise ValueError(
            f"Expected a pair_layout like {BERT_PAIRS}, found {layout!r}. Leave it out: from_encoder finds it by the "
            "tokenizer."
        )
    return layout


class CrossEncoderConfig(ZeroShotConfig):
    """Configuration of [`CrossEncoderForZeroShotClassification`].

    `max_tokens` is also the most tokens of a text with a label. Scale and bias begin at factor 1 and 0, which leave the
    head's logits as they are.

    Args:
        head: `binary` has one output, the logit that the label holds; `nli` has the classes of natural language inference.
        entailment_id: Which output of an `nli` head is entailment; found by the names of the classes when left out.
        contradiction_id: Which output is contradiction; found likewise.
        pair_layout: How the tokenizer puts a text and a label into one sequence, see [`describe_pairs`]; BERT's way when
            left out. `from_encoder` fills it in.
        **kwargs: See [`ZeroShotConfig`].

    Raises:
        ValueError: If `head` is not one of the two, a class cannot be found, or the layout is not whole.
    """

    model_type = "zeroshot-crossencoder"

    def __init__(
        self,
        text_config=None,
        *,
        head="binary",
        entailment_id=None,
        contradiction_id=None,
        pair_layout=None,
        logit_scale_init_value=0.0,
        logit_bias_init_value=0.0,
        **kwargs,
    ):
        if head not in HEADS:
            raise ValueError(f"Expected head to be one of {', '.join(HEADS)}, found {head!r}. Choose one of them.")
        text_config = copy.deepcopy(resolve_encoder_config("bert" if text_config is None else text_config))
        if head == "binary":
            if entailment_id is not None or contradiction_id is not None:
                raise ValueError(
                    f"Expected no entailment_id and contradiction_id with a binary head, found {entailment_id} and "
                    f"{contradiction_id}. Leave them out, or set head='nli'."
                )
            text_config.num_labels = 1
        else:
            unnamed = all(re.fullmatch(r"LABEL_\d+", name) for name in text_config.label2id)
            if unnamed and entailment_id is None:  # an encoder without a head of its own
                text_config.id2label = dict(enumerate(NLI_LABELS))
                text_config.label2id = {name: number for number, name in enumerate(NLI_LABELS)}
            entailment_id, contradiction_id = resolve_entailment(text_config.label2id, entailment_id, contradiction_id)
        self.head = head
        self.entailment_id = entailment_id
        self.contradiction_id = contradiction_id
        self.pair_layout = check_pair_layout(copy.deepcopy(BERT_PAIRS if pair_layout is None else pair_layout))
        super().__init__(
            text_config,
            logit_scale_init_value=logit_scale_init_value,
            logit_bias_init_value=logit_bias_init_value,
            **kwargs,
        )

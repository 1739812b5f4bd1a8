"""Tiny models and tokenizers, built in memory: no network, no GPU."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WORDS = """
    the a of in is this text about topic match ended goal team player scored bake flour oven cake sugar vote parliament law
    minister election sports cooking politics music guitar song band rain sun weather wind storm joy anger happy sad great
    bad . , ! ? : ; ' - 0 1 2 3 4 5 6 7 8 9
""".split()  # noqa: SIM905


def build_tokenizer() -> BertTokenizerFast:
    """A WordPiece tokenizer over a few words, single letters for all others."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    pieces += [word for word in WORDS if word not in pieces]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return BertTokenizerFast(tokenizer_object=backend, model_max_length=64)


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a randomly initialised BERT of two layers and its tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = build_tokenizer()
    set_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        # A randomly initialised model of the usual 0.02 gives every text nearly the same vector.
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@dataclass(frozen=True)
class Variant:
    """An architecture with options of its configuration."""

    architecture: str
    options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        return ",".join([self.architecture, *(f"{name}={value}" for name, value in self.options)])


# Every registered architecture as it is, and these options, which take another path through the mathematics.
OPTIONS: list[Variant] = [
    Variant("biencoder", (("pooling", "max"),)),
    Variant("polyencoder", (("num_codes", 1), ("pooling", "cls"))),
    # A sum over the three or four tokens of the labels below; the scale is lower by about that factor.
    Variant("lateinteraction", (("label_reduction", "sum"), ("projection_size", None), ("logit_scale_init_value", 2.0))),
    Variant("lateinteraction", (("projection_size", 16),)),  # fewer than the encoder's 32
    Variant("jointencoder", (("label_isolation", False),)),
    Variant("cascade", (("shortlist_size", 2),)),
    Variant("crossencoder", (("head", "nli"),)),
]


@pytest.fixture(params=[*map(Variant, ARCHITECTURES), *OPTIONS], ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Every registered architecture, and further ones with options."""
    return request.param


@pytest.fixture
def architecture(variant: Variant) -> str:
    """The key of the architecture."""
    return variant.architecture


@pytest.fixture
def model(variant: Variant, encoder_dir: str) -> ZeroShotPreTrainedModel:
    """An untrained model of the architecture, in evaluation mode."""
    set_seed(1)
    return ARCHITECTURES[variant.architecture].from_encoder(encoder_dir, **dict(variant.options))


@pytest.fixture
def biencoder(encoder_dir: str) -> ZeroShotPreTrainedModel:
    """An untrained bi-encoder."""
    set_seed(1)
    return ARCHITECTURES["biencoder"].from_encoder(encoder_dir)


TEXTS = [
    "the team scored a goal",
    "bake the cake in the oven with flour and sugar",
    "parliament vote",
    "the band is great, the guitar song is sad!",
    "rain",
]
LABELS = ["sports", "cooking", "politics law", "music"]


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Twelve labelled rows over three labels, with the label set beside them."""
    topics = {
        "sports": ["the team scored a goal", "the match ended 3 : 2", "player and goal", "great match of the team"],
        "cooking": ["bake the cake", "flour and sugar in the oven", "cake with sugar", "the oven is for the cake"],
        "politics": ["parliament vote", "the minister and the law", "election vote", "the law of the parliament"],
    }
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [{"text": text, "labels": [label]} for label, texts in topics.items() for text in texts]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(list(topics)), encoding="utf-8")
    return folder / "train.jsonl"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)

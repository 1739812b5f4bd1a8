"""Arguments, losses and the Trainer."""

from .arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments
from .losses import LOSSES, InfoNCELoss, MaskedBCELoss, SigmoidLoss, TripletLoss
from .parsing import parse_arguments
from .preparation import PreparedData, build_training_dataset, prepare_data
from .trainer import ZeroShotTrainer, copy_backbones

__all__ = [
    "LOSSES",
    "DataArguments",
    "InfoNCELoss",
    "MaskedBCELoss",
    "ModelArguments",
    "PreparedData",
    "SigmoidLoss",
    "TripletLoss",
    "ZeroShotTrainer",
    "ZeroShotTrainingArguments",
    "build_training_dataset",
    "copy_backbones",
    "parse_arguments",
    "prepare_data",
]

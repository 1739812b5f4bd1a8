"""Bulk prediction, search in many labels, retrieval of documents."""

from .label_index import LabelIndex
from .prediction import predict_file
from .retrieval import RetrieveRerankPipeline

__all__ = ["LabelIndex", "RetrieveRerankPipeline", "predict_file"]

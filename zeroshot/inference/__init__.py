"""Bulk prediction, search in many labels, retrieval of documents, encoders in ONNX Runtime or OpenVINO."""

from .exported import load_exported
from .label_index import LabelIndex
from .prediction import predict_file
from .retrieval import RetrieveRerankPipeline

__all__ = ["LabelIndex", "RetrieveRerankPipeline", "load_exported", "predict_file"]

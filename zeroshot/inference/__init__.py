"""Bulk prediction."""

from .prediction import predict_file

__all__ = ["predict_file"]

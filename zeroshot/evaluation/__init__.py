"""Metrics, suites and reports."""

from .metrics import METRICS, Accuracy, AccuracyAtK, MacroF1, MeanReciprocalRank, compute_metrics
from .suites import SetResult, SuiteResult, evaluate_model, format_table, load_suite, write_report

__all__ = [
    "METRICS",
    "Accuracy",
    "AccuracyAtK",
    "MacroF1",
    "MeanReciprocalRank",
    "SetResult",
    "SuiteResult",
    "compute_metrics",
    "evaluate_model",
    "format_table",
    "load_suite",
    "write_report",
]

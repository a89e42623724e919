"""How good a model is, measured through the same front door that users take."""

from clearsight.eval.accuracy import Score, evaluate, replies, score, wilson
from clearsight.eval.labelled import Labelled
from clearsight.eval.metrics import METRICS, judge
from clearsight.eval.report import markdown_table, write_report

__all__ = [
    "METRICS",
    "Labelled",
    "Score",
    "evaluate",
    "judge",
    "markdown_table",
    "replies",
    "score",
    "wilson",
    "write_report",
]

"""How good a model is, measured through the same front door that users take."""

from clearsight.eval.accuracy import Labelled, Score, evaluate, markdown_table, score, wilson

__all__ = ["Labelled", "Score", "evaluate", "markdown_table", "score", "wilson"]

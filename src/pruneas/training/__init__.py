"""Data sets, recipes, `fit` and `evaluate`, and processes to run them in. Knows nothing of pruning."""

from pruneas.recipe import Recipe
from pruneas.training.batches import in_order
from pruneas.training.data import DataSet, DataSource, Images
from pruneas.training.fit import EpochRecord, FitResult, Score, evaluate, fit, own_logits, resolve_precision
from pruneas.training.pool import Job, Outcome, Pool
from pruneas.training.ranks import Leader, Ranks

__all__ = [
    "DataSet",
    "DataSource",
    "EpochRecord",
    "FitResult",
    "Images",
    "Job",
    "Leader",
    "Outcome",
    "Pool",
    "Ranks",
    "Recipe",
    "Score",
    "evaluate",
    "fit",
    "in_order",
    "own_logits",
    "resolve_precision",
]

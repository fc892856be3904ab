"""Whole runs: folders, stages, results. Importing this loads no torch, so that a finished run is printed at once."""

from pruneas.run.result import SearchResult, load
from pruneas.run.search import search

__all__ = ["SearchResult", "load", "search"]

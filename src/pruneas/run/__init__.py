"""Whole runs: folders, stages, results."""

from pruneas.run.search import SearchResult, load, search

__all__ = ["SearchResult", "load", "search"]

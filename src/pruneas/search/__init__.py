"""Optuna explores widths related to the anchors."""

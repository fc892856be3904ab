"""Taking a found architecture away."""

from pruneas.export.files import FORMATS, export

__all__ = ["FORMATS", "export"]

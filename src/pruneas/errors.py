"""What pruneas raises for a caller to handle.

    PruneasError                 anything below; `exit_code` is what the command line ends with
    ├── InputError               what the user gave cannot be used (exit code 2)
    │   ├── SpaceError           a search-space file or a flag: every complaint at once, each with its place
    │   ├── NetworkError         a network reference that does not resolve, or whose factory raises
    │   │   └── StructureError   a network that cannot be traced or rebuilt at other widths
    │   ├── ArchitectureError    an architecture file that is malformed, or no longer fits its network
    │   ├── BudgetError          a budget that is not one, or that no legal widths can meet
    │   ├── DataError            images or labels that cannot be trained on
    │   └── RunError             a run folder that is missing, foreign, in use or cannot be written
    ├── ExportError              an export that could not be made, or was another network read back (exit code 1)
    └── TrainingError            a training that failed while it ran (exit code 1)

Texts say where, what must hold, what was found and what to do. Wrong arguments of a Python caller are ValueErrors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class PruneasError(Exception):
    exit_code = 1


class InputError(PruneasError):
    exit_code = 2


class SpaceError(InputError):
    """Holds every complaint; the text lists them, one a line."""

    def __init__(self, complaints: Sequence[str]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(complaints))

    def __reduce__(self) -> tuple[type[SpaceError], tuple[tuple[str, ...]]]:
        return type(self), (self.complaints,)  # exceptions are rebuilt from their text by default


class NetworkError(InputError):
    pass


class StructureError(NetworkError):
    pass


class ArchitectureError(InputError):
    pass


class BudgetError(InputError):
    pass


class DataError(InputError):
    pass


class RunError(InputError):
    @classmethod
    def without_result(cls, folder: Path) -> RunError:
        """For a folder that holds no finished run, or several of them."""
        if runs := sorted(path.parent for path in folder.glob("*/result.json")):
            return cls(f"{folder}: holds several runs; give one of {', '.join(map(str, runs))}")
        return cls(f"{folder}: holds no finished run; give the search's command again to go on with it")


class ExportError(PruneasError):
    pass


class TrainingError(PruneasError):
    pass

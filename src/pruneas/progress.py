"""What a run tells whoever watches it: a protocol that the terminal views, notebooks and tests implement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLine:
    """One finished candidate of the search, as a watcher sees it.

    `origin` is the generator's name, or 'search' for widths that Optuna proposed. `accuracy` is the validation
    accuracy in [0, 1], None where the trial failed; `flops` counts a multiply-add as one (fvcore) for one input;
    `budget_share` is how much of the budget the candidate uses, at most 1. `stopped_after` so many epochs its training
    was stopped early; `accuracy` is then extrapolated.
    """

    number: int
    origin: str
    flops: int
    budget_share: float
    params: int
    accuracy: float | None
    seconds: float
    copied_from: int | None = None
    failure: str | None = None
    stopped_after: int | None = None


class Observer(Protocol):
    def stage(self, name: str, detail: str, total: int) -> None:
        """A stage begins: its name, a sentence, and how many trainings it holds (0: none)."""

    def decoding(self, done: int, total: int) -> None:
        """So many images are decoded, which is done once."""

    def training(
        self,
        label: str,
        epoch: float,
        epochs: int,
        accuracy: float | None,
        loss: float | None = None,
        images_per_second: float | None = None,
    ) -> None:
        """A training has done `epoch` of `epochs`, perhaps a part of one.

        `accuracy`, in [0, 1], is on the validation images, `loss` the mean training loss; both of an epoch that has
        just ended, None within one.
        """

    def trained(self, label: str) -> None:
        """The training called `label` has ended, well or not."""

    def trial(self, line: TrialLine) -> None:
        """A candidate is finished."""

    def anchors(self, widths: Mapping[str, Mapping[str, int]], base: Mapping[str, int]) -> None:
        """The generators are done: their widths by group, beside the base network's."""

    def work(self, done: float, total: float) -> None:
        """Images trained on so far, and in the whole run: what the time left is reckoned from."""

    def note(self, text: str) -> None:
        """A sentence worth reading now (a failed trial, a group that cannot change)."""


class Silent:
    """Watches nothing."""

    def stage(self, name: str, detail: str, total: int) -> None:
        pass

    def decoding(self, done: int, total: int) -> None:
        pass

    def training(
        self,
        label: str,
        epoch: float,
        epochs: int,
        accuracy: float | None,
        loss: float | None = None,
        images_per_second: float | None = None,
    ) -> None:
        pass

    def trained(self, label: str) -> None:
        pass

    def trial(self, line: TrialLine) -> None:
        pass

    def anchors(self, widths: Mapping[str, Mapping[str, int]], base: Mapping[str, int]) -> None:
        pass

    def work(self, done: float, total: float) -> None:
        pass

    def note(self, text: str) -> None:
        pass

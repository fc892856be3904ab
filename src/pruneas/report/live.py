"""What a run shows while it goes on, on stderr: a live view in a terminal, plain lines everywhere else.

Both are observers (`pruneas.progress.Observer`) and context managers:

    with LiveView() as view:
        run.search(space, observer=view)
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pruneas.progress import TrialLine
from pruneas.report.numbers import count, duration, percent, share

Clock = Callable[[], float]
_SHOWN_TRIALS = 12
_SILENCE = 30.0  # seconds after which plain lines tell how far things are


@dataclass(frozen=True, slots=True)
class _Training:
    """What is known of a training that goes on; accuracy and loss are of its last whole epoch."""

    epoch: float
    epochs: int
    accuracy: float | None
    loss: float | None
    images_per_second: float | None

    def after(self, before: _Training | None) -> _Training:
        """With what is new, and what was known before of the rest."""
        if before is None or self.accuracy is not None:
            return self
        return replace(self, accuracy=before.accuracy, loss=before.loss)

    def words(self) -> list[str]:
        """Epoch, speed, loss and accuracy, '' for what is not known."""
        return [
            f"epoch {math.floor(self.epoch)}/{self.epochs}",
            "" if self.images_per_second is None else f"{self.images_per_second:,.0f} images/s",
            "" if self.loss is None else f"loss {self.loss:.3f}",
            "" if self.accuracy is None else f"{percent(self.accuracy)} %",
        ]


class TimeLeft:
    """Reckons the time left from the work done in this stage since it began to watch: what a resumed run had done
    before, and stages that do other things than train, tell nothing of the pace."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._last: tuple[float, float, float] | None = None

    def begin(self) -> None:
        """Another stage begins."""
        self._first = self._last = None

    def update(self, done: float, total: float) -> None:
        now = self._clock()
        if self._first is None:
            self._first = (now, done)
        self._last = (now, done, total)

    def seconds(self) -> float | None:
        """Seconds left as of now; None while nothing can be said."""
        if self._first is None or self._last is None:
            return None
        (began, before), (now, done, total) = self._first, self._last
        if done <= before or now <= began:
            return None
        left = (total - done) * (now - began) / (done - before)
        return max(0.0, left - (self._clock() - now))


class LiveView:
    """A live view: stage and time left, the last trials with the best so far, and the trainings that run.

    It redraws when it is told something, ten times a second at most, and twice a second in any case.
    """

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._began, self._clock, self._drawn = clock(), clock, -math.inf
        self._left = TimeLeft(clock)
        self._stage, self._detail, self._total, self._done = "", "", 0, 0
        self._trials: deque[TrialLine] = deque(maxlen=_SHOWN_TRIALS)
        self._best: TrialLine | None = None
        self._running: dict[str, _Training] = {}
        self._decoded: tuple[int, int] | None = None
        # Trainings come from a server process that is started by exec, so no fork can inherit the lock of the thread
        # that keeps the clock going.
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=2,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def stage(self, name: str, detail: str, total: int) -> None:
        self._stage, self._detail, self._total, self._done = name, detail, total, 0
        self._running.clear()
        self._decoded = None
        self._left.begin()
        self._console.print(_stage_text(name, detail, total))
        self._draw()

    def decoding(self, done: int, total: int) -> None:
        self._decoded = (done, total) if done < total else None
        self._draw()

    def training(
        self,
        label: str,
        epoch: float,
        epochs: int,
        accuracy: float | None,
        loss: float | None = None,
        images_per_second: float | None = None,
    ) -> None:
        now = _Training(epoch, epochs, accuracy, loss, images_per_second)
        self._running[label] = now.after(self._running.get(label))
        self._draw()

    def trained(self, label: str) -> None:
        self._running.pop(label, None)
        self._done += 1
        self._draw()

    def trial(self, line: TrialLine) -> None:
        self._trials.append(line)
        self._best = _better(self._best, line)
        self._draw()

    def anchors(self, widths: Mapping[str, Mapping[str, int]], base: Mapping[str, int]) -> None:
        self._console.print(_anchor_table(widths, base))

    def work(self, done: float, total: float) -> None:
        self._left.update(done, total)
        self._draw()

    def note(self, text: str) -> None:
        self._console.print(Text(f"note: {text}", style="yellow"))

    def _draw(self) -> None:
        now = self._clock()
        if now - self._drawn >= 0.1:
            self._drawn = now
            self._live.refresh()

    def _render(self) -> RenderableType:
        # What matters most comes first: rich cuts off what a low terminal has no room for.
        parts: list[RenderableType] = ["", self._progress()]
        if self._running:
            parts.append(_running_table(self._running))
        if self._best is not None:
            parts.append(Text(f"best so far: {_trial_text(self._best, None)}", style="green"))
        if self._trials:
            parts += ["", _trial_table(self._trials, self._best)]
        return Group(*parts)

    def _progress(self) -> RenderableType:
        left = self._left.seconds()
        row = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = [Text(self._stage or "starting", style="bold")]
        if self._total:
            cells.append(ProgressBar(total=self._total, completed=min(self._done, self._total), width=16))
            cells.append(f"{min(self._done, self._total)}/{self._total} trainings")
        if self._decoded is not None:
            done, total = self._decoded
            cells += [ProgressBar(total=total, completed=done, width=16), f"{done:,}/{total:,} images decoded"]
        cells.append(f"{duration(self._clock() - self._began)} gone")
        if left is not None:
            cells.append(f"{duration(left)} left")
        for _ in cells:
            row.add_column(no_wrap=True)
        row.add_row(*cells)
        return row


class PlainLines:
    """One line an event, for logs and pipes: stages, trials, trainings outside the search, notes.

    Epochs, and how many images are decoded, only where nothing else was told for half a minute.
    """

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        self._console = Console(file=stream, stderr=stream is None, soft_wrap=True, no_color=True, highlight=False)
        self._left = TimeLeft(clock)
        self._clock, self._spoke = clock, clock()
        self._best: TrialLine | None = None
        self._running: dict[str, _Training] = {}
        self._has_trials = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def stage(self, name: str, detail: str, total: int) -> None:
        # The stage called 'search' tells of its trainings as trials.
        self._has_trials = name == "search"
        self._left.begin()
        self._print(_stage_text(name, detail, total).plain)

    def decoding(self, done: int, total: int) -> None:
        if self._is_silent() or done == total:
            self._print(f"decoded {done:,} of {total:,} images")

    def training(
        self,
        label: str,
        epoch: float,
        epochs: int,
        accuracy: float | None,
        loss: float | None = None,
        images_per_second: float | None = None,
    ) -> None:
        now = _Training(epoch, epochs, accuracy, loss, images_per_second)
        self._running[label] = now.after(self._running.get(label))
        if self._is_silent():
            words = ", ".join(filter(None, self._running[label].words()))
            self._print(f"{label}: {words}{self._time_left()}")

    def trained(self, label: str) -> None:
        known = self._running.pop(label, None)
        accuracy = None if known is None else known.accuracy
        if not self._has_trials:
            found = "" if accuracy is None else f": validation accuracy {percent(accuracy)} %"
            self._print(f"trained {label}{found}{self._time_left()}")

    def trial(self, line: TrialLine) -> None:
        self._best = _better(self._best, line)
        self._print(f"trial {_trial_text(line, self._best)}{self._time_left()}")

    def anchors(self, widths: Mapping[str, Mapping[str, int]], base: Mapping[str, int]) -> None:
        for name, found in {"base": base, **widths}.items():
            self._print(f"widths of {name}: {' '.join(map(str, found.values()))}")

    def work(self, done: float, total: float) -> None:
        self._left.update(done, total)

    def note(self, text: str) -> None:
        self._print(f"note: {text}")

    def _time_left(self) -> str:
        left = self._left.seconds()
        return "" if left is None else f"; about {duration(left)} left"

    def _is_silent(self) -> bool:
        return self._clock() - self._spoke >= _SILENCE

    def _print(self, text: str) -> None:
        self._spoke = self._clock()
        self._console.print(text, markup=False, soft_wrap=True)


def _better(best: TrialLine | None, line: TrialLine) -> TrialLine | None:
    """The one of higher accuracy; the earlier one where they tie. What is extrapolated is no best."""
    if line.stopped_after is not None:
        return best
    if line.accuracy is None or (best is not None and best.accuracy is not None and best.accuracy >= line.accuracy):
        return best
    return line


def _stage_text(name: str, detail: str, total: int) -> Text:
    text = Text(name, style="bold")
    text.append(f": {detail}" if detail else "", style="not bold")
    if total:
        text.append(f" ({total} training{'s' if total > 1 else ''})", style="dim not bold")
    return text


def _trial_text(line: TrialLine, best: TrialLine | None) -> str:
    cost = f"{share(line.budget_share)} of the budget, {count(line.flops)} FLOPs, {count(line.params)} params"
    mark = ", best so far" if line is best else ""
    return f"{line.number} ({line.origin}): {cost}: {_outcome(line)}{mark}"


def _outcome(line: TrialLine) -> str:
    if line.failure is not None:
        return f"failed: {line.failure}"
    same = "" if line.copied_from is None else f" (same as {line.copied_from})"
    if line.accuracy is None:
        return f"-{same}"
    if line.stopped_after is None:
        return f"{percent(line.accuracy)} %{same}"
    return f"about {percent(line.accuracy)} %, stopped after epoch {line.stopped_after}{same}"


def _trial_table(lines: deque[TrialLine], best: TrialLine | None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("trial", "of budget", "FLOPs", "params", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("validation accuracy", no_wrap=True, overflow="ellipsis")
    for line in lines:
        table.add_row(
            str(line.number),
            share(line.budget_share),
            count(line.flops),
            count(line.params),
            duration(line.seconds),
            Text(line.origin),
            Text(_outcome(line) + (" *" if line is best else "")),
            style="bold green" if line is best else "red" if line.failure is not None else "",
        )
    return table


def _running_table(running: Mapping[str, _Training]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=18)  # with the rest, 80 characters
    for _ in range(5):
        table.add_column(no_wrap=True)
    for label, training in running.items():
        bar = ProgressBar(total=training.epochs, completed=training.epoch, width=8)
        table.add_row(Text(label), bar, *training.words())
    return table


def _anchor_table(widths: Mapping[str, Mapping[str, int]], base: Mapping[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("widths", no_wrap=True)
    table.add_column("in the order of the network", overflow="fold")
    for name, found in {"base": base, **widths}.items():
        table.add_row(Text(name), " ".join(str(found[group]) for group in base if group in found))
    return table

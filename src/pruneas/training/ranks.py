"""One training on several processes that `torchrun` started, each of which computes its part of every batch.

torch's DistributedDataParallel averages their gradients, so a step is that of the whole batch. Batch norm normalises
over each process's part; the running statistics that are kept are the first process's. The first process reads,
decides, writes and talks; the others follow: `Leader` has the interface of a `Pool`, and hands each job to all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pruneas.errors import TrainingError
from pruneas.training.pool import Job, Outcome

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # the others wait while the first one decodes images; torchrun ends all when one dies


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together: number `index` of `count`."""

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """The only one, where no process group has been made."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def part(self, size: int) -> slice:
        """This process's part of a batch; parts differ by one image at most."""
        return slice(size * self.index // self.count, size * (self.index + 1) // self.count)

    def spread(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are averaged over all processes; it begins with the first one's weights."""
        return model if self.count == 1 else DistributedDataParallel(model)

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def like_first(self, tensors: Iterable[Tensor]) -> None:
        """Give these tensors the first process's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def of_first(self, thing: T) -> T:
        """What the first process gives."""
        if self.count == 1:
            return thing
        things = [thing]
        dist.broadcast_object_list(things, 0)
        return things[0]


@contextmanager
def joined(device: str, threads: int) -> Iterator[None]:
    """This process in the group that torchrun's environment describes, with the GPU of its number on `cuda`."""
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.set_num_threads(threads)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


class Leader:
    """Runs jobs one after the other on all processes; what they report and give is the first process's.

    Only a TrainingError, which every process meets in the same step, ends a job alone; whatever else goes wrong ends
    this process, and torchrun then all of them. A context manager; leaving it sends the others home.
    """

    def __enter__(self) -> Leader:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # after an error the others may be in the middle of a step; torchrun ends them
            Ranks.here().of_first(None)

    def run(self, jobs: Iterable[Job], on_message: Callable[[str, Any], None] | None = None) -> Iterator[Outcome]:
        """Yields outcomes in order, as `Pool.run` does."""
        for job in jobs:

            def report(message: Any, key: str = job.key) -> None:
                if on_message is not None:
                    on_message(key, message)

            Ranks.here().of_first(job)
            try:
                value = job.function(report, **job.arguments)
            except TrainingError as error:
                yield Outcome(key=job.key, user_error=error, failure=str(error))
            else:
                yield Outcome(key=job.key, value=value)


def follow() -> None:
    """What every process but the first does: its part of the leader's jobs, until there are no more."""
    nothing: Job | None = None
    while (job := Ranks.here().of_first(nothing)) is not None:
        try:
            job.function(lambda message: None, **job.arguments)
        except TrainingError:
            pass  # the leader has met it, too, and tells it

"""Who works on what: one row a task in a table of our own, beside Optuna's, over SQLite and PostgreSQL alike.

A task belongs to its owner until a moment on the database's clock; machines' clocks play no part. Owners renew while
they work. One that died, or slept, does not, and the next to ask gets the task. Whoever hands in a result must still be
the owner, and that is one statement in the database: so no task is counted twice, whoever wakes up when.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

TABLE = sa.Table(
    "pruneas_leases",
    sa.MetaData(),
    sa.Column("study", sa.String(512), primary_key=True),
    sa.Column("task", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(512), nullable=True),
    sa.Column("ends", sa.Double, nullable=True),  # seconds since 1970
    sa.Column("result", sa.Text, nullable=True),
)
_C = TABLE.c


class database_seconds(GenericFunction[float]):
    """The database's clock, seconds since 1970."""

    type = sa.Double()
    inherit_cache = True


@compiles(database_seconds, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_seconds, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return "EXTRACT(EPOCH FROM clock_timestamp())::double precision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The state of a task. `is_held`: its owner renewed in time; `is_done`: it has a result."""

    owner: str | None
    is_held: bool
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """The tasks of one study, as one owner sees them. A lease ends `seconds` after it was last renewed."""

    engine: sa.Engine
    study: str
    owner: str
    seconds: float

    def create(self) -> None:
        """Make the table where there is none."""
        try:
            TABLE.create(self.engine, checkfirst=True)
        except (IntegrityError, sa.exc.ProgrammingError, sa.exc.OperationalError):
            if not sa.inspect(self.engine).has_table(TABLE.name):  # another made it in the same moment
                raise

    def claim(self, task: str) -> bool:
        """Take a task, or keep it. False where another owner holds it, or it is done."""
        free = sa.or_(_C.owner.is_(None), _C.owner == self.owner, _C.ends < database_seconds())
        if self._update(self._row(task), _C.result.is_(None), free, owner=self.owner, ends=self._end()):
            return True
        try:
            with self.engine.begin() as connection:
                connection.execute(
                    TABLE.insert().values(study=self.study, task=task, owner=self.owner, ends=self._end())
                )
        except IntegrityError:
            return False
        return True

    def renew(self, tasks: Collection[str]) -> set[str]:
        """Hold on to tasks. Returns those that are this owner's no longer."""
        if not tasks:
            return set()
        chosen = sa.and_(_C.study == self.study, _C.task.in_(tasks), _C.owner == self.owner, _C.result.is_(None))
        with self.engine.begin() as connection:
            connection.execute(TABLE.update().where(chosen).values(ends=self._end()))
            kept = connection.execute(sa.select(_C.task).where(chosen)).scalars().all()
        return {*tasks} - {*kept}

    def release(self, task: str) -> None:
        self._update(self._row(task), _C.owner == self.owner, owner=None, ends=None)

    def release_others(self, prefix: str) -> None:
        """Free the tasks of owners that are known to be dead: earlier ones whose name begins so. What they did stays
        theirs."""
        theirs = sa.and_(_C.owner.startswith(prefix, autoescape=True), _C.owner != self.owner)
        self._update(_C.study == self.study, theirs, _C.result.is_(None), owner=None, ends=None)

    def finish(self, task: str, result: str) -> bool:
        """Hand in a result. False where the task is this owner's no longer, or done: then nothing was written."""
        if self._update(self._row(task), _C.owner == self.owner, _C.result.is_(None), result=result, ends=None):
            return True
        # An answer that was lost on its way: this owner's result is there already.
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(_C.owner, _C.result).where(self._row(task))).one_or_none()
        return found is not None and tuple(found) == (self.owner, result)

    def put(self, task: str, result: str) -> None:
        """Enter the result of a task that was done elsewhere, unless there is one."""
        if not self._update(self._row(task), _C.result.is_(None), owner=None, ends=None, result=result):
            try:
                with self.engine.begin() as connection:
                    connection.execute(TABLE.insert().values(study=self.study, task=task, result=result))
            except IntegrityError:
                pass  # it has one

    def holds(self) -> dict[str, Hold]:
        """Every task that anybody ever claimed, by name."""
        is_held = sa.and_(_C.owner.is_not(None), _C.ends >= database_seconds())
        columns = _C.task, _C.owner, is_held, _C.result.is_not(None)
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(*columns).where(_C.study == self.study)).all()
        return {task: Hold(owner=owner, is_held=bool(held), is_done=bool(done)) for task, owner, held, done in rows}

    def results(self, tasks: Collection[str]) -> Mapping[str, str]:
        """The results of those of the tasks that are done."""
        chosen = sa.select(_C.task, _C.result).where(_C.study == self.study, _C.task.in_(tasks), _C.result.is_not(None))
        with self.engine.connect() as connection:
            return {task: result for task, result in connection.execute(chosen)}

    def clear(self, *, but: str) -> None:
        """Forget every task but one."""
        with self.engine.begin() as connection:
            connection.execute(TABLE.delete().where(_C.study == self.study, _C.task != but))

    def _row(self, task: str) -> sa.ColumnElement[bool]:
        return sa.and_(_C.study == self.study, _C.task == task)

    def _end(self) -> sa.ColumnElement[float]:
        return database_seconds() + self.seconds

    def _update(self, *conditions: sa.ColumnElement[bool], **values: Any) -> bool:
        with self.engine.begin() as connection:
            return connection.execute(TABLE.update().where(*conditions).values(**values)).rowcount > 0

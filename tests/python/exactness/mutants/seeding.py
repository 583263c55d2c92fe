"""A mistake, and putting it into the database, the compiled SQL or the reader."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, replace

import pytest
from exactness.serving import test_caches
from exactness.world import World

from fiml.sessions import queries, reading, serving, windows
from fiml.sessions.queries import marts
from fiml.warehouse import fold as fold_module
from fiml.warehouse.project import Mart

__all__ = ["Mutant", "seed_mistake"]


@dataclass(frozen=True)
class Mutant:
    """Replace `old` by `new` in one place.

    Attributes:
        where: "reader", the statements that read marts; "users", those that read periods of a user
            from the source; "models", all compiled SQL; "totals", that
            of the serving layer; "fold", what folds it; a module; or a function of the database.
    """

    where: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.where}: {self.old.strip()} -> {self.new.strip() or 'nothing'}"


def seed_mistake(mutant: Mutant, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends: the world's database is its own, and the rest is put back."""
    if mutant.where == "reader":
        _mutate_reader(mutant, monkeypatch)
    elif mutant.where == "users":
        changed = {
            kind: text.replace(mutant.old, mutant.new)
            for kind, text in queries.USER_PERIODS.items()
        }
        assert changed != queries.USER_PERIODS
        monkeypatch.setattr(queries, "USER_PERIODS", changed)
    elif mutant.where in {"models", "totals"}:
        _mutate_models(mutant, world)
    elif mutant.where.startswith("fiml."):
        _mutate_module(mutant, world, monkeypatch)
    elif mutant.where == "fold":
        _mutate_fold(mutant, monkeypatch)
    else:
        row = world.builder.execute(
            "select pg_get_functiondef(%s::regprocedure)", [mutant.where]
        ).fetchone()
        assert row is not None
        assert mutant.old in row[0]
        world.builder.execute(row[0].replace(mutant.old, mutant.new))


def _mutate_reader(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = {
        kind: marts.MartQuestion(
            **{
                name: getattr(question, name).replace(mutant.old, mutant.new)
                for name in marts.MartQuestion.__slots__
            }
        )
        for kind, question in marts._MART_QUESTIONS.items()
    }
    assert mutants != marts._MART_QUESTIONS
    monkeypatch.setattr(marts, "_MART_QUESTIONS", mutants)


def _mutate_models(mutant: Mutant, world: World) -> None:
    names = ["session_totals"] if mutant.where == "totals" else list(world.marts)
    mutants = {
        name: replace(
            world.marts[name],
            compiled_code=world.marts[name].compiled_code.replace(mutant.old, mutant.new),
            on_conflict={
                column: text.replace(mutant.old, mutant.new)
                for column, text in world.marts[name].on_conflict.items()
            },
        )
        for name in names
    }
    assert any(world.marts[name] != mart for name, mart in mutants.items())
    world.marts |= mutants


def _mutate_module(mutant: Mutant, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(mutant.where)
    source = inspect.getsource(module)
    assert mutant.old in source
    original, mutated = dict(vars(module)), dict(vars(module))
    exec(compile(source.replace(mutant.old, mutant.new), module.__file__ or "", "exec"), mutated)  # noqa: S102
    # Whoever imported something by name has the mutant's.
    for user in (reading, windows, serving, test_caches):
        for name in set(vars(user)) & set(module.__all__):
            if vars(user)[name] is original[name]:
                monkeypatch.setattr(user, name, mutated[name])
    if "ServingCache" in mutated:
        world.cache = mutated["ServingCache"]()


def _mutate_fold(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = fold_module.fold_statements

    def fold_statements(mart: Mart) -> tuple[str, ...]:
        return tuple(
            "select 1" if text.startswith(mutant.old) else text for text in statements(mart)
        )

    monkeypatch.setattr(fold_module, "fold_statements", fold_statements)

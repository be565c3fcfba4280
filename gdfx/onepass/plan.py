"""How a step is split: which regions run as machine code, and what is left to XLA, and why."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from gdfx.onepass import native, trial
from gdfx.onepass.loop import Loop
from gdfx.onepass.program import Evaluation, Operand, Program, Value, flat
from gdfx.onepass.regions import Region, regions, why_not

GROUP = 24  # leaves a call: of more, XLA takes longer to compile than it saves


@dataclass(frozen=True)
class Pass:
    """A call of machine code, for leaves of one loop and the same scalars."""

    target: str
    regions: tuple[Region, ...]

    @property
    def scalars(self) -> tuple[Value, ...]:
        """What all leaves are given."""
        return self.regions[0].scalars

    @property
    def arrays(self) -> tuple[Value, ...]:
        """What is read, leaf by leaf."""
        return tuple(v for region in self.regions for v in region.arrays)

    @property
    def results(self) -> tuple[Value, ...]:
        """What is written, leaf by leaf."""
        return tuple(v for region in self.regions for v in region.results)


@dataclass(frozen=True)
class Plan:
    """A step as passes and a rest."""

    program: Program
    passes: tuple[Pass, ...]
    refused: dict[Value, str]
    """Results of regions that are left to XLA, and why."""

    def why_not(self, wanted: Operand) -> str | None:
        """Why a result of the step comes from no pass; None if it comes from one."""
        if isinstance(wanted, Value) and wanted in self.written:
            return None
        if isinstance(wanted, Value) and wanted in self.refused:
            return self.refused[wanted]
        return why_not(wanted)

    @functools.cached_property
    def written(self) -> dict[Value, Pass]:
        """The pass that writes each result."""
        return {v: one for one in self.passes for v in one.results}


def plan(closed: Any) -> Plan:
    """Split a traced step; its machine code is ready afterwards."""
    program = flat(closed)
    groups: dict[Any, list[Region]] = {}
    refused: dict[Value, str] = {}
    for region in regions(program):
        target, why = _machine_code(region.loop)
        if target is None:
            refused |= dict.fromkeys(region.results, why)
        else:
            groups.setdefault((target, region.scalars), []).append(region)
    passes = (
        Pass(target, tuple(group[i : i + GROUP]))
        for (target, _), group in groups.items()
        for i in range(0, len(group), GROUP)
    )
    return Plan(program, tuple(passes), refused)


@functools.cache
def _machine_code(loop: Loop) -> tuple[str | None, str]:
    """A loop's target that has passed its trial, or why there is none."""
    if len(loop.results) == 1:
        return None, "one array is one pass there, too"
    if not loop.arrays:
        return None, "the same numbers everywhere"
    try:
        target = native.target(loop)
    except NotImplementedError as error:
        return None, str(error)
    if not trial.agrees(loop, target):
        return None, "a trial of the pass differed from XLA"
    return target, ""


def run(plan: Plan, arguments: Sequence[Any], call: Callable[..., Sequence[Any]]) -> list[Any]:
    """The step's results, in the trace that is running.

    Args:
      plan: of the step.
      arguments: what its program is given.
      call: ``call(one, scalars, arrays, aliases)`` runs a pass; ``aliases`` says into which of the
        arrays which of the results may be written.
    """
    value = Evaluation(plan.program, arguments)
    written: dict[Value, Any] = {}
    for one in plan.passes:
        scalars = [jax.numpy.reshape(value(v), ()) for v in one.scalars]
        arrays = [value(v) for v in one.arrays]
        written.update(
            zip(one.results, call(one, scalars, arrays, dict(_aliases(plan, one))), strict=True)
        )
    return [
        written[v] if isinstance(v, Value) and v in written else value(v)
        for v in plan.program.wanted
    ]


def _aliases(plan: Plan, one: Pass) -> Iterator[tuple[int, int]]:
    """Which array of a pass a result takes the place of: a parameter's, or part of the state's."""
    before = dict(zip(plan.program.wanted, plan.program.given, strict=False))
    places = {v: i for i, v in enumerate(one.arrays)}
    for i, result in enumerate(one.results):
        old = before.get(result)
        if old in places and _alike(old, result):
            yield places[old], i


def _alike(old: Value, new: Value) -> bool:
    return (old.shape, old.aval.dtype) == (new.shape, new.aval.dtype)

"""A plan in words, leaf by leaf."""

from collections.abc import Iterable
from typing import Any

import jax

from gdfx.onepass.plan import Plan
from gdfx.onepass.program import Value
from gdfx.onepass.regions import Region


def explained(plan: Plan, results: Any) -> str:
    """What becomes of each parameter, and which arrays of the state come from no pass.

    Args:
      plan: of the step.
      results: the shapes of the new parameters and the new state.
    """
    of = {v: region for one in plan.passes for region in one.regions for v in region.results}
    params, state = map(jax.tree_util.tree_leaves_with_path, results)
    rows: list[tuple[str, ...]] = []
    inside = 0
    for (path, leaf), wanted in zip(params, plan.program.wanted, strict=False):
        region = of.get(wanted) if isinstance(wanted, Value) else None
        inside += region is not None
        said = _said(plan, region) if region else f"XLA: {plan.why_not(wanted)}"
        rows.append((_named("params", path), _kind(leaf), said))
    for (path, leaf), wanted in zip(state, plan.program.wanted[len(params) :], strict=True):
        why = plan.why_not(wanted)
        if leaf.size > 1 and why is not None:
            rows.append((_named("state", path), _kind(leaf), f"XLA: {why}"))
    targets = {one.target for one in plan.passes}
    head = (
        f"one pass over memory: {inside} of {len(params)} parameters, "
        f"{_counted(len(targets), 'loop')}, {_counted(len(plan.passes), 'call')}"
    )
    return "\n".join([head, *_aligned(rows)])


def _said(plan: Plan, region: Region) -> str:
    given = set(plan.program.given)
    made = sum(v not in given for v in region.arrays)
    by_xla = f" ({made} made by XLA)" if made else ""
    return (
        f"one pass: reads {_counted(len(region.arrays), 'array')}{by_xla} and "
        f"{_counted(len(region.scalars), 'number')}, writes {len(region.results)}"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _named(tree: str, path: Any) -> str:
    return tree + jax.tree_util.keystr(path)


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    return [f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows]

"""The result of an evaluation as people read it."""

from __future__ import annotations

from typing import Any

CONTROLS = {
    "with_another_picture": "(each picture swapped for another)",
    "with_blank_pictures": "(each picture blank)",
}


def markdown_table(result: dict[str, Any]) -> str:
    """The result of `evaluate` as a table: one row a skill, then the controls."""
    exact = all(values.get("metric", "exact") == "exact" for values in result["by_skill"].values())
    rows = [f"| skill | {'exactly ' * exact}right | 95% interval | samples |", "|---|---|---|---|"]
    named = [
        *result["by_skill"].items(),
        *((text, result[name]) for name, text in CONTROLS.items() if result.get(name)),
    ]
    for skill, values in named:
        low, high = values["interval"]
        metric = values.get("metric", "exact")
        label = skill if metric == "exact" else f"{skill} ({metric})"
        rows.append(f"| {label} | {values['accuracy']:.1%} | {low:.1%} to {high:.1%} | {values['samples']} |")
    return "\n".join(rows)

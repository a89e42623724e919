"""The result as a table for people and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def table(result: dict[str, Any]) -> str:
    """One row a runtime; the last is what this machine could do at best."""
    rows = [_head(result), *(_row(data) for data in result["runtimes"].values()), _floor(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.rjust, row[1:], widths[1:])) for row in rows]
    named = [f"{row[0].ljust(widths[0])}  {line}" for row, line in zip(rows, lines, strict=True)]
    machine = result["machine"]
    speeds = (
        f"reads {machine['read_gb_s']:g} GB/s",
        f"{machine['byte_gop_s']:g} GOP/s on bytes",
        f"{machine['float_gflop_s']:g} GFLOP/s on bfloat16 or float32",
    )
    return "\n".join([*named, f"machine: {machine['threads']} threads, {', '.join(speeds)}"])


def _head(result: dict[str, Any]) -> list[str]:
    head = ["", "load s"]
    for size in result["floor"]:
        head += [f"{size} vision s", "first token s", "tok/s"]
    first = next(iter(result["runtimes"].values()))
    head += [f"tok/s at {batch}" for batch in first["decode_tok_s"]]
    return [*head, "of memory", "second s", "requests/s", "peak GB"]


def _row(data: dict[str, Any]) -> list[str]:
    row = [data["title"], _text(data["load_s"])]
    for picture in data["pictures"].values():
        row += [_text(picture[key]) for key in ("vision_s", "first_token_s", "decode_tok_s")]
    row += [_text(value) for value in data["decode_tok_s"].values()]
    share, second = data.get("share_of_memory_speed"), data.get("second_question", {})
    row += ["" if share is None else f"{share:.0%}", _text(second.get("first_token_s")), _text(data.get("requests_s"))]
    return [*row, _text(data["peak_gb"])]


def _floor(result: dict[str, Any]) -> list[str]:
    row = ["this machine's limit", ""]
    for case in result["floor"].values():
        row += [_text(case["vision_s"]), _text(case["first_token_s"]), ""]
    first = next(iter(result["runtimes"].values()))
    least = min(data["token_gb"] for data in result["runtimes"].values())
    best = result["machine"]["read_gb_s"] / least
    row += [_text(best) if batch == "1" else "" for batch in first["decode_tok_s"]]
    return [*row, "", "", "", ""]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def plot(result: dict[str, Any], path: Path) -> None:
    """Write a PNG: time to the first token, tokens a second, memory. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = list(result["floor"])
    figure, axes = pyplot.subplots(1, len(sizes) + 2, figsize=(3.6 * (len(sizes) + 2), 3.4), layout="constrained")
    runtimes = list(result["runtimes"].values())
    colours = dict(zip((data["title"] for data in runtimes), [f"C{number}" for number in range(10)], strict=False))
    for axis, size in zip(axes, sizes, strict=False):
        _first_tokens(axis, result, size, runtimes, colours)
    _decoding(axes[-2], result, runtimes, colours)
    _bars(axes[-1], "peak memory, GB", [(d["title"], d["peak_gb"]) for d in runtimes], colours)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _first_tokens(
    axis: Any, result: dict[str, Any], size: str, runtimes: list[dict[str, Any]], colours: dict[str, Any]
) -> None:
    floor = result["floor"][size]
    title = f"{size}, {floor['prompt_tokens']} tokens:\nseconds to the first token"
    _bars(axis, title, [(d["title"], d["pictures"][size]["first_token_s"]) for d in runtimes], colours)
    seen = [data["pictures"][size]["vision_s"] for data in runtimes]
    hatched = {"color": "none", "edgecolor": "white", "hatch": "///", "linewidth": 0}
    axis.bar(range(len(seen)), seen, label="of it the vision tower", **hatched)
    axis.axhline(floor["first_token_s"], color="black", linestyle="--", linewidth=1, label="the machine's limit")
    legend = axis.legend(fontsize=8, frameon=False, loc="upper left")
    for patch in legend.get_patches():
        patch.set(facecolor="grey")


def _bars(axis: Any, title: str, values: list[tuple[str, float]], colours: dict[str, Any]) -> None:
    bars = axis.bar(range(len(values)), [value for _, value in values], color=[colours[name] for name, _ in values])
    axis.bar_label(bars, [f"{value:.3g}" for _, value in values], fontsize=8)
    axis.set_xticks(range(len(values)), [name.replace(" ", "\n") for name, _ in values], fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _decoding(axis: Any, result: dict[str, Any], runtimes: list[dict[str, Any]], colours: dict[str, Any]) -> None:
    for data in runtimes:
        batches = [int(batch) for batch in data["decode_tok_s"]]
        axis.plot(batches, list(data["decode_tok_s"].values()), "o-", label=data["title"], color=colours[data["title"]])
    axis.set_xticks(list(map(int, runtimes[0]["decode_tok_s"])))
    axis.set_ylim(bottom=0)
    axis.set_title("tokens a second by conversations at once", fontsize=9)
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)

"""Draws accuracy against speed: a PNG, and an HTML page that needs nothing but itself.

matplotlib comes with the extra ``posefleet[eval]``; without it, this module does not import.
"""

import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from fleet.annotations import Annotations
from fleet.evaluate import Evaluation
from fleet.whole_file import whole_file
from models.accuracy import PCK_ALPHA

PNG_NAME, HTML_NAME = "accuracy.png", "accuracy.html"

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by color-blind eyes (Okabe & Ito, "Color universal design", 2008)."""
_MARKERS = {"f32": "o", "bf16": "s", "f16": "^", "int8": "D"}
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid #ddd;
         white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid #888; }
th:nth-child(-n+4), td:nth-child(-n+4) { text-align: left; }
p { color: #444; }
"""


def draw(evaluations: Sequence[Evaluation], truth: Annotations, folder: Path) -> tuple[Path, Path]:
    """Write `PNG_NAME` and `HTML_NAME` into a folder.

    Returns:
        Their paths.

    Raises:
        InputError: they cannot be written.
    """
    figure = _figure(evaluations)
    with (
        whole_file(folder / PNG_NAME) as picture,
        whole_file(folder / HTML_NAME) as page,
    ):
        figure.savefig(picture, format="png", dpi=150)
        page.write_text(_page(evaluations, truth, _svg(figure)), encoding="utf-8")
    return folder / PNG_NAME, folder / HTML_NAME


def _measure(evaluations: Sequence[Evaluation]) -> str:
    return "AP" if evaluations[0].score.measure == "ap" else f"PCK@{PCK_ALPHA}"


def _figure(evaluations: Sequence[Evaluation]) -> Figure:
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    models = list(dict.fromkeys(each.model for each in evaluations))
    has_sizes = len({(each.model, each.size) for each in evaluations}) > len(models)
    for each in evaluations:
        color = _COLORS[models.index(each.model) % len(_COLORS)]
        low, high = each.score.ci95
        value, at_ms = each.score.value, each.total.p50
        below, above = max(0.0, value - low), max(0.0, high - value)
        axes.errorbar(
            at_ms, value, yerr=[[below], [above]], color=color, capsize=4, linewidth=1.2,
            marker=_MARKERS[each.precision], markersize=8, markeredgecolor="white",
        )  # fmt: skip
        if has_sizes:
            axes.annotate(
                each.size_text, (at_ms, value + above), (0, 6), textcoords="offset points",
                rotation=90, ha="center", va="bottom", fontsize=8, color=color,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.margins(x=0.15)
    axes.set_ylim(0, axes.get_ylim()[1] * (1.15 if has_sizes else 1))
    axes.set_xlabel("milliseconds a frame: resize, inference, grouping (p50, one lane, log scale)")
    axes.set_ylabel(f"{_measure(evaluations)} with 95 % interval")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(figure, evaluations, models)
    return figure


def _legend(figure: Figure, evaluations: Sequence[Evaluation], models: Sequence[str]) -> None:
    colors = [
        Line2D([], [], color=_COLORS[index % len(_COLORS)], linewidth=4, label=model)
        for index, model in enumerate(models)
    ]
    shapes = [
        Line2D([], [], color="#555", marker=_MARKERS[name], linestyle="", label=name)
        for name in dict.fromkeys(each.precision for each in evaluations)
    ]
    figure.legend(
        handles=[*colors, *shapes], loc="outside upper left", ncols=3, frameon=False, fontsize=9
    )


def _svg(figure: Figure) -> str:
    """Return the drawing as an element of a page; the same evaluations give the same text."""
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "posefleet"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :].replace(
        "<svg", '<svg role="img" aria-label="the table below, drawn"', 1
    )


def _page(evaluations: Sequence[Evaluation], truth: Annotations, svg: str) -> str:
    measure = _measure(evaluations)
    devices = ", ".join(
        dict.fromkeys(
            f"{each.accelerator.device} ({each.accelerator.name})" for each in evaluations
        )
    )
    heads = (
        "network", "device", "precision", "input", measure, "95 % interval", "AP50", "AP75", "AR",
        f"PCK@{PCK_ALPHA}", "ms p50", "ms p95",
        "to f32",
    )  # fmt: skip
    head = "".join(f"<th>{html.escape(each)}</th>" for each in heads)
    rows = "\n".join(_row(each) for each in evaluations)
    title = f"Accuracy against speed on {html.escape(truth.name)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p>{len(truth.pictures)} pictures, {truth.people} people with keypoints; measured on
{html.escape(devices)}.</p>
{svg}
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p>The interval holds {measure} of 95 % of the sets that chance would have drawn: pictures drawn
again with replacement. Two networks whose intervals overlap may still differ, since both saw the
same pictures. PCK@{PCK_ALPHA}: share of labelled keypoints within {PCK_ALPHA} of the larger side
of the person's box; those of people who were not found are wrong. Times are of one frame at a time
in one lane, resizing, inference and grouping together. To f32: {measure} as a share of that of the
same network in f32 on the CPU, and its interval on the same pictures.</p>
</body>
</html>
"""


def _row(each: Evaluation) -> str:
    low, high = each.score.ci95
    average = each.score.average
    others = [average.ap50, average.ap75, average.ar] if average else [None] * 3
    cells = [
        each.model, each.accelerator.device, each.precision, each.size_text,
        f"{each.score.value:.3f}", f"{low:.3f} to {high:.3f}",
        *("-" if value is None else f"{value:.3f}" for value in others),
        f"{each.score.pck:.3f}", f"{each.total.p50:.1f}", f"{each.total.p95:.1f}",
        _ratio(each),
    ]  # fmt: skip
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _ratio(each: Evaluation) -> str:
    ratio = each.score.ratio_to(each.reference) if each.reference else None
    if ratio is None or each.is_reference:
        return "-"
    return f"{ratio[0]:.3f} ({ratio[1][0]:.3f} to {ratio[1][1]:.3f})"

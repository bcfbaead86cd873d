"""`fleet models eval` and `fleet models compare`: how right and how fast networks are here."""

import importlib.util
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.errors import AcceleratorError
from fleet.cli import complete, render
from fleet.cli.status import JsonOption
from fleet.errors import FleetError
from models.errors import ModelError

if TYPE_CHECKING:
    from fleet.annotations import Annotations
    from fleet.evaluate import Evaluation, Trial

Images = Annotated[
    Path, typer.Option("--images", metavar="DIR", help="Folder of the annotated pictures.")
]
Truth = Annotated[
    Path,
    typer.Option("--annotations", metavar="JSON", help="COCO keypoint annotations of them."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", "-d", help="CPU, GPU.0, ...; the first found if left out."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="The first so many pictures.")
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out pictures that are not in DIR.")
]
PckOnly = Annotated[
    bool,
    typer.Option("--pck-only", help="Not everybody is annotated: PCK instead of AP."),
]


def evaluate(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete.models)],
    images: Images,
    annotations: Truth,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option("--precision", "-p", help="f32 (default), f16, bf16 or int8.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", "-s", metavar="WxH", help="Input of the network.")
    ] = None,
    limit: Limit = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="JSON", help="Write the poses as COCO results."),
    ] = None,
    skip_missing: SkipMissing = False,
    pck_only: PckOnly = False,
    reference: Annotated[
        bool,
        typer.Option("--reference/--no-reference", help="Also run f32 on the CPU to compare."),
    ] = True,
    json: JsonOption = False,
) -> None:
    """Measure a network's accuracy and time on this machine.

    --json prints {"model", "device", "precision", "size", "images", "people", "ap", "ap50", "ap75",
    "ap_medium", "ap_large", "ar", "pck", "measure", "ci95": [low, high], "oks_per_keypoint": {name:
    mean}, "ms": {"infer": {"p50", "p95"}, "total": {"p50", "p95"}}, "ratio_to_f32",
    "ratio_ci95"}. ci95 and ratio_to_f32 are of the measure: ap, or pck with --pck-only. What does
    not apply is null.
    """
    from fleet.cli.choices import parse_precision, parse_size

    _require("pycocotools")
    with _results_file(out) as results:
        truth = _read(annotations, images, limit, skip_missing)
        from fleet.evaluate import Trial

        trial = Trial(name, device, parse_precision(precision), parse_size(size))
        made = _with_reference(_run(trial, truth, pck_only), trial, truth, reference)
        _write_results(results, made, truth)
    _show_details(made, truth, json)
    if out is not None:
        render.note(f"wrote {out}")


def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", autocompletion=complete.models)],
    images: Images,
    annotations: Truth,
    device: Device = None,
    precision: Annotated[
        str, typer.Option("--precision", "-p", metavar="P,...", help="Each of these.")
    ] = "f32",
    size: Annotated[
        str | None,
        typer.Option("--size", "-s", metavar="WxH,...", help="Each of these; else their own."),
    ] = None,
    limit: Limit = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Draw accuracy.png, accuracy.html."),
    ] = None,
    skip_missing: SkipMissing = False,
    pck_only: PckOnly = False,
    json: JsonOption = False,
) -> None:
    """Compare networks, precisions and input sizes on the same pictures.

    What does not run on this device is left out, and said at the end.

    --json prints {"evaluations": [...]}, each as `fleet models eval --json` prints it. The f32 of
    ratio_to_f32 is the one in the comparison, where there is one.
    """
    _require("pycocotools", *(["matplotlib"] if out else []))
    trials = _trials(names, device, precision, size)
    truth = _read(annotations, images, limit, skip_missing)
    made, failed = _run_all(trials, truth, pck_only)
    if made and out is not None:
        from fleet.chart import draw

        for path in draw(made, truth, out):
            render.note(f"wrote {path}")
    if json:
        render.document({"evaluations": [_json(each, truth) for each in made]})
    else:
        _table(made, truth)
    if failed:
        raise FleetError(f"{len(failed)} of {len(trials)} could not run: {'; '.join(failed)}")


def _require(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise FleetError(
            f"this needs {' and '.join(missing)}, which this environment lacks",
            hint="pip install 'posefleet[eval]'",
        )


def _read(path: Path, folder: Path, limit: int | None, skip_missing: bool) -> "Annotations":
    from fleet.annotations import read_annotations

    truth = read_annotations(path, folder, limit=limit, skip_missing=skip_missing)
    if truth.missing:
        render.warning(f"{truth.missing} annotated pictures are not in {folder}")
    return truth


def _trials(
    names: list[str], device: str | None, precision: str, size: str | None
) -> list["Trial"]:
    from fleet.cli.choices import parse_precision, parse_size
    from fleet.evaluate import Trial
    from models.catalog import load_manifest

    precisions = [parse_precision(each.strip()) for each in precision.split(",")]
    sizes = [parse_size(each.strip()) for each in size.split(",")] if size else [None]
    for name in names:
        load_manifest(name)  # a name that is wrong is said before anything runs
    trials = [
        Trial(name, device, each, fitting)
        for name in names
        for fitting in sizes
        for each in precisions
    ]
    return list(dict.fromkeys(trials))


def _run(trial: "Trial", truth: "Annotations", pck_only: bool) -> "Evaluation":
    from fleet.evaluate import open_trial

    with ExitStack() as stack:
        with render.progress(trial.model) as progress:
            opened = stack.enter_context(open_trial(trial, progress))
        with render.steps(f"{trial.model} {opened.precision}", len(truth.pictures)) as advance:
            return opened.evaluate(truth, advance, pck_only=pck_only)


def _run_all(
    trials: list["Trial"], truth: "Annotations", pck_only: bool
) -> tuple[list["Evaluation"], list[str]]:
    """Run what runs here; also return a sentence for each that does not."""
    from fleet.evaluate import with_references

    made: list[Evaluation] = []
    failed: list[str] = []
    for trial in trials:
        try:
            made.append(_run(trial, truth, pck_only))
        except (AcceleratorError, ModelError) as error:
            size = "" if trial.size is None else f" {trial.size[0]}x{trial.size[1]}"
            failed.append(f"{trial.model} {trial.precision}{size}: {error}")
    return with_references(made), failed


def _with_reference(
    made: "Evaluation", trial: "Trial", truth: "Annotations", is_wanted: bool
) -> "Evaluation":
    from fleet.evaluate import reference_of

    if made.is_reference or not is_wanted:
        return made
    other = _run(reference_of(trial), truth, made.score.average is None)
    return replace(made, reference=other.score)


@contextmanager
def _results_file(path: Path | None) -> Iterator[Path | None]:
    """Make sure that results can be written, before the work is done."""
    from fleet.whole_file import whole_file

    if path is None:
        yield None
        return
    with whole_file(path) as partial:
        yield partial


def _write_results(path: Path | None, made: "Evaluation", truth: "Annotations") -> None:
    if path is not None:
        from fleet.scoring import coco_results

        path.write_text(dumps(coco_results(truth.pictures, made.found)))


def _show_details(made: "Evaluation", truth: "Annotations", json: bool) -> None:
    if json:
        render.document(_json(made, truth))
        return
    _table([made], truth)
    render.line("")
    rows = [
        (name, None if value is None else f"{value:.3f}")
        for name, value in made.score.oks_per_keypoint.items()
    ]
    render.table(("KEYPOINT", "OKS"), rows, empty="")


_AVERAGES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar")
_COLUMNS = (
    "MODEL", "DEVICE", "PRECISION", "SIZE", "AP", "95 %", "AP50", "AP75", "AR", "PCK", "MS P50",
    "P95", "TO F32",
)  # fmt: skip


def _table(made: list["Evaluation"], truth: "Annotations") -> None:
    rows = [_row(each) for each in made]
    render.table(_COLUMNS, rows, empty="nothing could run")
    render.line(
        f"{len(truth.pictures)} pictures, {truth.people} people of {truth.name}; "
        "95 %: interval of AP, or of PCK where there is no AP; ms: one frame alone"
    )


def _row(each: "Evaluation") -> tuple[str | float | None, ...]:
    average = each.score.average
    numbers = [average.ap50, average.ap75, average.ar] if average else [None] * 3
    ratio = each.score.ratio_to(each.reference) if each.reference else None
    low, high = each.score.ci95
    return (
        each.model, each.accelerator.device, each.precision, each.size_text,
        _share(average.ap if average else None), f"{low:.3f}-{high:.3f}",
        *map(_share, numbers), _share(each.score.pck),
        each.total.p50, each.total.p95, _share(ratio[0] if ratio else None),
    )  # fmt: skip


def _share(value: float | None) -> str | None:
    return None if value is None or math.isnan(value) else f"{value:.3f}"


def _json(each: "Evaluation", truth: "Annotations") -> dict[str, Any]:
    score = each.score
    summary = asdict(score.average) if score.average else dict.fromkeys(_AVERAGES)
    ratio = score.ratio_to(each.reference) if each.reference else None
    return {
        "model": each.model,
        "device": each.accelerator.device,
        "precision": each.precision,
        "size": each.size_text,
        "images": len(truth.pictures),
        "people": truth.people,
        **{name: _number(value) for name, value in summary.items()},
        "pck": _number(score.pck),
        "measure": score.measure,
        "ci95": [_number(value) for value in score.ci95],
        "oks_per_keypoint": {
            name: _number(value) for name, value in score.oks_per_keypoint.items()
        },
        "ms": {
            part: {name: round(value, 3) for name, value in asdict(times).items()}
            for part, times in (("infer", each.infer), ("total", each.total))
        },
        "ratio_to_f32": _number(ratio[0]) if ratio else None,
        "ratio_ci95": [_number(value) for value in ratio[1]] if ratio else None,
    }


def _number(value: float | None) -> float | None:
    """Four digits: the fifth is noise. JSON has no "not a number"."""
    return None if value is None or math.isnan(value) else round(value, 4)

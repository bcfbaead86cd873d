"""`fleet models classify` and `fleet models finetune-head`: networks that say what is shown."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import complete, render
from fleet.cli.status import JsonOption
from fleet.errors import InputError

if TYPE_CHECKING:
    from fleet.classify import Classifier
    from fleet.finetune import Example, Examples, Outcome

DEFAULT_CLASSIFIER = "resnet50-imagenet"

Network = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="Network, or the path of a manifest.", autocompletion=complete.models
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", "-d", help="CPU, GPU.0, ...; the first found if left out."),
]
Precision = Annotated[
    str | None, typer.Option("--precision", "-p", help="f32 (default), f16, bf16 or int8.")
]


def classify(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE|FOLDER...", help="Folders: all in them.")
    ],
    model: Network = DEFAULT_CLASSIFIER,
    device: Device = None,
    precision: Precision = None,
    top: Annotated[int, typer.Option("--top", min=1, help="So many labels a picture.")] = 3,
    json: JsonOption = False,
) -> None:
    """Say what pictures show.

    --json prints a line a picture: {"source", "model", "device", "precision", "labels": [{"name",
    "score"}]}, the likeliest first.
    """
    from agents.errors import StreamError

    failed = 0
    paths = _pictures(pictures)
    with ExitStack() as stack:
        classifier = _opened(stack, model, device, precision)
        for path in paths:
            try:
                labels = classifier.classify(path)[:top]
            except StreamError as error:
                failed += 1
                render.warning(str(error))
                continue
            if json:
                render.record(_json(classifier, path, labels))
            else:
                said = ", ".join(f"{label.name} {label.score:.2f}" for label in labels)
                render.line(f"{path}: {said}")
    if failed:
        raise InputError(f"{failed} of {len(paths)} pictures could not be used")


def finetune_head(
    folder: Annotated[
        Path, typer.Argument(help="Two folders of pictures, or pictures and labels.csv.")
    ],
    name: Annotated[str, typer.Option("--name", help="Of the new network.")],
    model: Network = DEFAULT_CLASSIFIER,
    train: Annotated[
        Path | None,
        typer.Option("--train", metavar="LIST", help="Names of the pictures to learn from."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", metavar="LIST", help="Names of those for the test.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of split and training.")] = 0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Rounds of training.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="New; else among your own data."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="PICTURE", help="Draw the mistakes of the test here."),
    ] = None,
    device: Device = None,
    json: JsonOption = False,
) -> None:
    """Teach a network to tell two kinds of pictures apart, for example cars and no cars.

    Only a small head learns: 32 sigmoid units, 30 % dropout, one sigmoid. Without --train and
    --test, 30 % of each kind are kept for the test, drawn by --seed.

    --json prints {"name", "manifest", "model", "device", "precision", "classes", "train", "test",
    "train_accuracy", "test_accuracy", "confusion", "mistakes": [{"file", "label", "score"}]};
    train and test are names of files, confusion has a row for each true class.
    """
    from fleet import paths
    from fleet.finetune import check_target, finetune, read_examples, save
    from models.head import Training

    target = out or paths.data_folder() / "models" / name
    check_target(name, target)
    examples = _split(train, test, seed, read_examples(folder))
    with ExitStack() as stack:
        classifier = _opened(stack, model, device, None)
        with render.steps("pictures", len(examples.train) + len(examples.test)) as advance:
            outcome = finetune(classifier, examples, Training(epochs, seed=seed), advance)
        manifest = save(outcome, classifier, name, target)
        if sheet is not None:
            _draw(outcome, sheet)
        if json:
            render.document(_outcome_json(outcome, classifier, name, manifest))
        else:
            _show(outcome, manifest)


def _pictures(given: list[Path]) -> list[Path]:
    from agents.streams.images import pictures_in

    return [path for each in given for path in (pictures_in(each) if each.is_dir() else (each,))]


def _opened(
    stack: ExitStack, model: str, device: str | None, precision: str | None
) -> "Classifier":
    from fleet.classify import open_classifier
    from fleet.cli.choices import parse_precision
    from models.catalog import load_manifest

    manifest = load_manifest(model)
    with render.progress("fetching") as progress:
        return stack.enter_context(
            open_classifier(manifest, device, parse_precision(precision), progress)
        )


def _split(train: Path | None, test: Path | None, seed: int, found: "list[Example]") -> "Examples":
    from fleet.finetune import split_by_chance, split_by_lists

    if train is None and test is None:
        return split_by_chance(found, seed)
    if train is None or test is None:
        raise typer.BadParameter("--train and --test are given together or not at all")
    return split_by_lists(found, train, test)


def _draw(outcome: "Outcome", sheet: Path) -> None:
    from agents.streams.images import read_picture
    from fleet.output import write_picture
    from models.draw import contact_sheet

    if not outcome.mistakes:
        render.note(f"no mistakes to draw: {sheet} is not written")
        return
    pictures = [
        (read_picture(example.path, "rgb"), f"{example.name} ({score:.2f})")
        for example, score in outcome.mistakes
    ]
    write_picture(sheet, contact_sheet(pictures))
    render.note(f"wrote {sheet}")


def _show(outcome: "Outcome", manifest: Path) -> None:
    first, second = outcome.examples.classes
    learned, asked = len(outcome.examples.train), len(outcome.examples.test)
    render.line(
        f"{outcome.test_accuracy:.1%} of {asked} test pictures right "
        f"({outcome.train_accuracy:.1%} of the {learned} learned from)"
    )
    rows = [
        (label, *counts) for label, counts in zip((first, second), outcome.confusion, strict=True)
    ]
    render.table(("TRUE", f"SAID {first}", f"SAID {second}"), rows, empty="")
    for example, score in outcome.mistakes:
        taken = second if example.label == first else first
        render.line(f"wrong: {example.name}, taken for {taken} ({score:.2f})")
    render.line(f"`fleet models classify PICTURE -m {manifest}` uses it")


def _json(classifier: "Classifier", path: Path, labels: Any) -> dict[str, Any]:
    return {
        "source": str(path),
        "model": classifier.manifest.name,
        "device": classifier.accelerator.device,
        "precision": classifier.precision,
        "labels": [{"name": label.name, "score": round(label.score, 4)} for label in labels],
    }


def _outcome_json(
    outcome: "Outcome", classifier: "Classifier", name: str, manifest: Path
) -> dict[str, Any]:
    return {
        "name": name,
        "manifest": str(manifest),
        "model": classifier.manifest.name,
        "device": classifier.accelerator.device,
        "precision": classifier.precision,
        "classes": list(outcome.examples.classes),
        "train": [example.name for example in outcome.examples.train],
        "test": [example.name for example in outcome.examples.test],
        "train_accuracy": round(outcome.train_accuracy, 4),
        "test_accuracy": round(outcome.test_accuracy, 4),
        "confusion": [list(row) for row in outcome.confusion],
        "mistakes": [
            {"file": example.name, "label": example.label, "score": round(score, 4)}
            for example, score in outcome.mistakes
        ],
    }

"""`fleet models list|pull|verify`: the networks that can run, and their files in the cache.

`convert` is in `fleet.cli.convert`, `eval` and `compare` are in `fleet.cli.evaluate`.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import complete, convert, evaluate, finetune, render
from fleet.cli.status import JsonOption
from models.errors import ArtifactError

if TYPE_CHECKING:
    from models.manifest import ModelManifest

app = typer.Typer(help="List networks, fetch and verify their files.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", autocompletion=complete.models)
]


@app.command("list")
def list_models(json: JsonOption = False) -> None:
    """List the networks of the catalog.

    FETCH says "by hand" where no source is known that can be fetched and verified; `fleet models
    pull` says where such a network is. STRIDES are other output strides that are made of the same
    weights: NAME-stride8 is a network too.

    --json prints {"models": [{"name", "title", "task", "aliases", "license", "decoder", "skeleton",
    "width", "height", "stride", "strides", "bytes", "can_fetch", "is_cached", "accuracy"}]};
    accuracy is what others published: [{"metric", "value", "data", "source"}].
    """
    from models.catalog import list_manifests

    found = [_model_json(manifest) for manifest in list_manifests()]
    if json:
        render.document({"models": found})
        return
    rows = [
        (
            each["name"], each["task"], f"{each['width']}x{each['height']}",
            ", ".join(map(str, each["strides"])) or None, each["license"],
            render.bytes_text(each["bytes"]) if each["bytes"] else None,
            "yes" if each["can_fetch"] else "by hand", "yes" if each["is_cached"] else "no",
            each["title"],
        )
        for each in found
    ]  # fmt: skip
    columns = (
        "NAME", "TASK", "INPUT", "STRIDES", "LICENSE", "SIZE", "FETCH", "CACHED", "TITLE",
    )  # fmt: skip
    render.table(columns, rows, empty="the catalog is empty")


@app.command()
def pull(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole catalog.")] = False,
    json: JsonOption = False,
) -> None:
    """Fetch the files of networks into the cache.

    What is there and right stays. --all leaves out what can only be fetched by hand.

    --json prints {"models": [{"name", "files": [{"path", "size"}]}]}, with paths of the cache.
    """
    from models.artifacts import ensure_files, model_files

    if everything == bool(names):
        raise typer.BadParameter("name the networks to fetch, or give --all", param_hint="NAME")
    pulled = []
    for manifest in _wanted(names):
        if everything and not manifest.can_fetch:
            continue
        with render.progress(manifest.name) as report:
            paths = ensure_files(model_files(manifest), report)
        files = [{"path": str(path), "size": path.stat().st_size} for path in paths.values()]
        pulled.append({"name": manifest.name, "files": files})
        if not json:
            render.line(f"{manifest.name} is in the cache")
    if json:
        render.document({"models": pulled})


@app.command()
def verify(names: Names = None, json: JsonOption = False) -> None:
    """Compare cached files with the catalog.

    By size and checksum, of every network if none is named. A damaged file, or a missing one of a
    network that was named, ends with exit code 4.

    --json prints {"models": [{"name", "files": [{"path", "state", "cause"}]}]}; state is ok,
    missing or damaged.
    """
    found: list[dict[str, Any]] = [
        {"name": manifest.name, "files": _verified(manifest)}
        for manifest in _wanted(names)
        if names or manifest.files
    ]
    files = [(model["name"], file) for model in found for file in model["files"]]
    if json:
        render.document({"models": found})
    else:
        rows = [(name, file["state"], file["path"], file["cause"] or None) for name, file in files]
        render.table(("NAME", "STATE", "FILE", "CAUSE"), rows, empty="the catalog is empty")
    bad = ("damaged", "missing") if names else ("damaged",)
    wrong = dict.fromkeys(name for name, file in files if file["state"] in bad)
    if wrong:
        raise ArtifactError(
            f"files of {', '.join(wrong)} are {' or '.join(bad)}",
            hint=f"`fleet models pull {' '.join(wrong)}` fetches them",
        )


app.command()(convert.convert)
app.command("eval")(evaluate.evaluate)
app.command()(evaluate.compare)
app.command()(finetune.classify)
app.command("finetune-head")(finetune.finetune_head)


def _wanted(names: list[str] | None) -> "list[ModelManifest]":
    from models.catalog import list_manifests, load_manifest

    return [load_manifest(name) for name in names] if names else list(list_manifests())


def _model_json(manifest: "ModelManifest") -> dict[str, Any]:
    from models.artifacts import model_files

    paths = model_files(manifest).paths if manifest.files else {}
    return {
        "name": manifest.name,
        "title": manifest.title,
        "task": manifest.task,
        "aliases": list(manifest.aliases),
        "license": manifest.license,
        "decoder": manifest.decoder.name,
        "skeleton": manifest.skeleton,
        "width": manifest.input.width,
        "height": manifest.input.height,
        "stride": manifest.stride,
        "strides": list(manifest.strides),
        "bytes": sum(file.size for file in manifest.files),
        "can_fetch": manifest.can_fetch,
        "accuracy": [published.model_dump() for published in manifest.accuracy],
        # Only looked for, not hashed: `fleet models verify` does that.
        "is_cached": bool(paths) and all(path.is_file() for path in paths.values()),
    }


def _verified(manifest: "ModelManifest") -> list[dict[str, str]]:
    from models.artifacts import model_files, verify

    wanted = model_files(manifest)
    faults = {fault.path: fault.cause for fault in verify(wanted)}
    return [
        {
            "path": str(path),
            "state": "ok" if path not in faults else "damaged" if path.exists() else "missing",
            "cause": faults.get(path, ""),
        }
        for path in wanted.paths.values()
    ]

"""`fleet models list|pull|verify`: the networks that can run, and their files in the cache.

`eval` and `compare` are in `fleet.cli.evaluate`.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import complete, evaluate, render
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

    --json prints {"models": [{"name", "title", "aliases", "license", "decoder", "skeleton",
    "width", "height", "stride", "bytes", "is_cached"}]}.
    """
    from models.catalog import list_manifests

    found = [_model_json(manifest) for manifest in list_manifests()]
    if json:
        render.document({"models": found})
        return
    rows = [
        (
            each["name"], f"{each['width']}x{each['height']}", each["decoder"], each["license"],
            render.bytes_text(each["bytes"]), "yes" if each["is_cached"] else "no", each["title"],
        )
        for each in found
    ]  # fmt: skip
    columns = ("NAME", "INPUT", "DECODER", "LICENSE", "SIZE", "CACHED", "TITLE")
    render.table(columns, rows, empty="the catalog is empty")


@app.command()
def pull(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole catalog.")] = False,
    json: JsonOption = False,
) -> None:
    """Fetch the files of networks into the cache.

    What is there and right stays.

    --json prints {"models": [{"name", "files": [{"path", "size"}]}]}, with paths of the cache.
    """
    from models.artifacts import ensure_files, model_files

    if everything == bool(names):
        raise typer.BadParameter("name the networks to fetch, or give --all", param_hint="NAME")
    pulled = []
    for manifest in _wanted(names):
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
        {"name": manifest.name, "files": _verified(manifest)} for manifest in _wanted(names)
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


app.command("eval")(evaluate.evaluate)
app.command()(evaluate.compare)


def _wanted(names: list[str] | None) -> "list[ModelManifest]":
    from models.catalog import list_manifests, load_manifest

    return [load_manifest(name) for name in names] if names else list(list_manifests())


def _model_json(manifest: "ModelManifest") -> dict[str, Any]:
    from models.artifacts import model_files

    paths = model_files(manifest).paths
    return {
        "name": manifest.name,
        "title": manifest.title,
        "aliases": list(manifest.aliases),
        "license": manifest.license,
        "decoder": manifest.decoder.name,
        "skeleton": manifest.skeleton,
        "width": manifest.input.width,
        "height": manifest.input.height,
        "stride": manifest.stride,
        "bytes": sum(file.size for file in manifest.files),
        # Only looked for, not hashed: `fleet models verify` does that.
        "is_cached": all(path.is_file() for path in paths.values()),
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

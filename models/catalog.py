"""The catalog: find and read manifests by name, alias or path."""

import difflib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from models.errors import ManifestError
from models.manifest import FolderSource, ModelManifest, parse

DEFAULT_MODEL = "posenet-mobilenet-075"
"""The network that runs when nobody names one."""


def list_manifests() -> tuple[ModelManifest, ...]:
    """Return every manifest that travels with the package, in order of name.

    Raises:
        ManifestError: one is malformed, or two claim the same name; nothing is skipped.
    """
    entries = sorted(
        (entry for entry in _folder().iterdir() if entry.name.endswith(".yaml")),
        key=lambda entry: entry.name,
    )
    manifests = tuple(parse(_read(entry), ModelManifest, entry.name) for entry in entries)
    owners: dict[str, str] = {}
    for manifest in manifests:
        for name in (manifest.name, *manifest.aliases):
            if name in owners:
                raise ManifestError(f"{manifest.name} and {owners[name]} both claim {name!r}")
            owners[name] = manifest.name
    return manifests


def _folder() -> Traversable:
    return resources.files("models") / "manifests"


def variants(manifest: ModelManifest) -> tuple[ModelManifest, ...]:
    """Return the networks that are made of the same files at other output strides."""
    return tuple(manifest.at_stride(stride) for stride in manifest.strides)


def load_manifest(name_or_path: str | Path) -> ModelManifest:
    """Return a manifest of the catalog by name or alias, or read one from a YAML file.

    Raises:
        ManifestError: no such manifest (with the names that are near), or it is malformed.
    """
    text = str(name_or_path)
    if "/" in text or text.endswith((".yaml", ".yml")):
        return _from_file(Path(text))
    # Manifests are files of their own name: most often one is read, not all (3 instead of 70 ms).
    for name in (text, text.rpartition("-stride")[0]):
        if name and (entry := _folder() / f"{name}.yaml").is_file():
            found = parse(_read(entry), ModelManifest, entry.name)
            for each in (found, *variants(found)):
                if each.name == text:
                    return each
    manifests = [each for manifest in list_manifests() for each in (manifest, *variants(manifest))]
    names = {
        name: manifest for manifest in manifests for name in (manifest.name, *manifest.aliases)
    }
    if text in names:
        return names[text]
    near = difflib.get_close_matches(text, names, n=2) or [m.name for m in list_manifests()]
    raise ManifestError(
        f"no model is named {text!r}",
        hint=f"did you mean {' or '.join(near)}? A path to a manifest (.yaml) works too",
    )


def _from_file(path: Path) -> ModelManifest:
    manifest = parse(_read(path), ModelManifest, str(path))
    home = path.resolve().parent
    sources = tuple(
        FolderSource(folder=str(home / source.folder))
        if isinstance(source, FolderSource)
        else source
        for source in manifest.sources
    )
    return manifest.model_copy(update={"sources": sources})


def _read(entry: Traversable) -> str:
    try:
        return entry.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(f"no manifest at {entry}", hint="check the path") from error
    except OSError as error:
        raise ManifestError(f"cannot read {entry}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{entry} is not UTF-8 text", hint="is this a manifest?") from error

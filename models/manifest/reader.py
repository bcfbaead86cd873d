"""Read YAML into a schema; every error names file, line, column and, where one is near, the key."""

from typing import TypeVar

from models.document import Problems, check, read_document
from models.errors import ManifestError
from models.manifest.fields import Strict

Schema = TypeVar("Schema", bound=Strict)


def parse(text: str, schema: type[Schema], origin: str) -> Schema:
    """Parse one YAML document into a schema.

    Args:
        text: the document.
        schema: what it must be, e.g. `ModelManifest`.
        origin: the name of the file, for messages.

    Raises:
        ManifestError: one line a problem, each with file, line, column and, where there is one, a
            way out.
    """
    problems = Problems(origin)
    document = read_document(text, problems.report)
    value = None
    if document is not None and not isinstance(document.data, dict):
        problems.report((1, 1), (), "the file holds no keys", "start with `name: ...`")
    elif document is not None:
        value = check(document, schema, problems.report)
    found = problems.in_order()
    if found or value is None:
        raise ManifestError("\n".join(str(problem) for problem in found))
    return value

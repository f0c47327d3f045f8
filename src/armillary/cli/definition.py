"""Apply definitions from files and folders, and write them out again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from armillary.base.errors import ArmillaryError, NotFound, UsageError
from armillary.cli.context import Context, json_option, pass_context
from armillary.cli.group import Verb
from armillary.cli.output import show_json

if TYPE_CHECKING:
    from armillary.base.yamlfile import Document
    from armillary.cli.bundle import Bundle
    from armillary.client.client import Client

SUFFIXES = (".yaml", ".yml", ".json")
ALGORITHM_FILE = "algorithm.yaml"
SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "same": ("=", None)}


@dataclass(frozen=True)
class Definition:
    """One document to apply; an algorithm with the folder that it is packed with."""

    document: "Document"
    folder: Path | None = None

    @property
    def value(self) -> dict[str, Any]:
        """The document itself."""
        value: dict[str, Any] = self.document.value
        return value

    @property
    def name(self) -> str:
        """Its kind and id."""
        return f"{self.value['kind']} {self.value.get('id')}"


@click.command(
    cls=Verb,
    epilog="Examples:  armillary apply definitions/   armillary apply algorithms/browse --dry-run",
    short_help="Put YAML definitions and algorithm folders into force.",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@json_option
@pass_context
def apply(context: Context, paths: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Put definitions into force, all or none: collections, algorithms, rules, pools and deliveries.

    Of a folder all YAML files are taken, with those of the folders in it. A folder that holds an algorithm.yaml is an
    algorithm, or several that share its files: it is packed and sent along once (hidden files, caches, build folders and the
    definitions themselves are left out).
    The plan is shown, then done; what is in force already is left alone.
    """
    definitions = distinct(read(paths))
    if not definitions:
        raise NotFound("There are no definitions in what you named.", "A definition is a YAML document with a `kind`.")
    with context.client() as client:
        documents = _sent(client, definitions)
        changes = _changes(client, definitions, documents, dry_run=True)
        if not as_json:
            _show_plan(changes)
        is_wanted = not dry_run and any(change["action"] != "same" for change in changes)
        if is_wanted:
            changes = _changes(client, definitions, documents, dry_run=False)
    if as_json:
        show_json({"changes": changes, "applied": is_wanted})
    elif is_wanted:
        click.echo("Applied.")
    else:
        click.echo("Nothing was changed." if dry_run else "All of it is in force already.")


@click.command(
    cls=Verb,
    epilog="Examples:  armillary export > definitions.yaml   armillary export --to backup/",
    short_help="Write out all definitions as YAML.",
)
@click.option("--kind", help="Only this kind: collection, algorithm, rule, pool or delivery.")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="A new folder to write into.")
@json_option
@pass_context
def export(context: Context, kind: str | None, folder: Path | None, as_json: bool) -> None:
    """Write out all definitions that are in force, as YAML that `armillary apply` takes.

    With --to each gets a file, and every version of an algorithm its packed folder as well, so that applying the folder to an
    empty instance defines the very same.
    """
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", "Name a new folder.")
    with context.client() as client:
        documents = [row["spec"] for row in client.definitions(kind)] if kind != "algorithm" else []
        documents += list(_algorithms(client)) if kind in (None, "algorithm") else []
        if as_json:
            show_json(documents)
        elif folder is None:
            click.echo("---\n".join(text_of(document) for document in documents), nl=False)
        else:
            _write(client, folder, documents)
            click.echo(f"Wrote {len(documents)} definitions to {folder}.", err=True)


# Reading ---------------------------------------------------------------------------------------------------


def read(paths: Sequence[Path]) -> Iterator[Definition]:
    """The definitions in files and folders, checked as far as that goes here, with the place of what is wrong."""
    from armillary.base.yamlfile import load_all

    for path, is_named in _files(paths):
        for document in load_all(path.read_bytes(), str(path)):
            if isinstance(document.value, dict) and "kind" in document.value:
                yield _checked(document, path)
            elif is_named:
                raise UsageError(f"{document.where()}: this document has no kind.", "Begin it with `kind: collection`.")
            else:
                click.echo(f"{document.where()}: left out, it has no kind.", err=True)


def distinct(definitions: Iterable[Definition]) -> list[Definition]:
    """Each once; two that are called the same and differ are refused, as only one can be meant."""
    first: dict[tuple[str, str, str], Definition] = {}
    for one in definitions:
        key = (one.value["kind"], str(one.value.get("id")), str(one.value.get("version", "")))
        earlier = first.setdefault(key, one)
        if earlier.value != one.value:
            message = f"{one.document.where()}: {one.name} is another in {earlier.document.where()}."
            raise UsageError(message, "Keep one of them.", field="id")
    return list(first.values())


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """The files to read, each with whether it was named itself."""
    for path in paths:
        if path.is_dir():
            yield from ((file, False) for file in _definition_files(path))
        else:
            yield path, True


def _definition_files(folder: Path) -> Iterator[Path]:
    from armillary.cli.bundle import JUNK

    entries = sorted(
        (entry for entry in folder.iterdir() if not any(entry.match(pattern) for pattern in JUNK)),
        key=lambda entry: entry.name,
    )
    is_algorithm = (folder / ALGORITHM_FILE).is_file()
    for entry in entries:
        if entry.is_file() and entry.suffix in SUFFIXES and (entry.suffix != ".json" or not is_algorithm):
            yield entry
    # What lies deeper in an algorithm's folder is its code, tests and samples.
    for entry in entries if not is_algorithm else []:
        if entry.is_dir():
            yield from _definition_files(entry)


def _checked(document: "Document", path: Path) -> Definition:
    from armillary.algorithms import specfile
    from armillary.collections import collection

    checks = {"algorithm": specfile.check, "collection": collection.read}
    kind = document.value["kind"]
    try:
        if kind in checks:
            checks[kind](document.value)
    except UsageError as error:
        raise document.place(error) from error
    return Definition(document, path.parent if kind == "algorithm" else None)


# Sending ---------------------------------------------------------------------------------------------------


def _sent(client: "Client", definitions: Sequence[Definition]) -> list[dict[str, Any]]:
    """The documents as the server takes them, once the folders that go with them are there, each packed and sent once."""
    bundles = {key: _bundle(*key) for key in dict.fromkeys(map(_bundle_key, definitions)) if key is not None}
    for bundle in {one.sha256: one for one in bundles.values() if one}.values():
        headers = {"Content-Type": "application/gzip", "Content-Length": str(len(bundle.data))}
        client.request("PUT", f"/api/bundles/{bundle.sha256}", content=bundle.data, headers=headers)
    documents = []
    for definition in definitions:
        key = _bundle_key(definition)
        found = bundles[key] if key else None
        documents.append(definition.value | {"bundle": found.document()} if found else definition.value)
    return documents


def _bundle_key(definition: Definition) -> tuple[Path, str] | None:
    """The folder of an algorithm, shared by all algorithms in it, and the packed one's name where it was exported."""
    if definition.folder is None:
        return None
    return definition.folder, str((definition.value.get("bundle") or {}).get("sha256", ""))


def _bundle(folder: Path, exported: str) -> "Bundle | None":
    from armillary.cli.bundle import Bundle, pack

    if not exported:
        return pack(folder)
    file = bundle_file(folder, exported)
    return Bundle(file.read_bytes()) if file.exists() else None  # the server says so if it does not have it either


def _changes(
    client: "Client", definitions: Sequence[Definition], documents: Sequence[dict[str, Any]], *, dry_run: bool
) -> list[dict[str, Any]]:
    try:
        return client.apply(documents, dry_run=dry_run)
    except ArmillaryError as error:
        raise _placed(error, definitions) from error


def _placed(error: ArmillaryError, definitions: Sequence[Definition]) -> ArmillaryError:
    """The server's refusal with the place in the file; it begins with the document's kind and id."""
    for definition in definitions:
        if error.message.startswith(f"{definition.name}: "):
            return definition.document.place(error)
    if len(definitions) == 1:
        return definitions[0].document.place(error)
    return error


def _show_plan(changes: Sequence[Mapping[str, Any]]) -> None:
    for change in changes:
        sign, colour = SIGNS[change["action"]]
        click.echo(click.style(f"{sign} {change['kind']} {change['id']}", fg=colour))
        for difference in change.get("differences", []):
            click.echo(f"    {difference}")


# Writing ---------------------------------------------------------------------------------------------------


def text_of(document: Mapping[str, Any]) -> str:
    """A definition as people write it: what it is first."""
    from armillary.base.yamlfile import dump

    first = {name: document[name] for name in ("kind", "id", "version", "title") if name in document}
    return dump(first | dict(document))


def _algorithms(client: "Client") -> Iterator[dict[str, Any]]:
    """Every version that somebody registered, with the name of its bundle."""
    from armillary.client.client import segment

    for newest in client.pages("/api/algorithms", "algorithms"):
        path = f"/api/algorithms/{segment(newest['id'])}"
        for version in client.call("GET", path)["versions"]:
            if version["bundle"]:  # those without came with the server
                spec = client.call("GET", path, params={"version": version["version"]})["spec"]
                yield spec | {"bundle": version["bundle"]}


def _write(client: "Client", folder: Path, documents: Sequence[dict[str, Any]]) -> None:
    for document in documents:
        version = f"-{document['version']}" if document["kind"] == "algorithm" else ""
        file = folder / f"{document['kind']}s" / f"{document['id']}{version}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text_of(document))
        if "bundle" in document:
            packed = bundle_file(file.parent, document["bundle"]["sha256"])
            with packed.open("w+b") as output:
                client.download(
                    f"/api/bundles/{document['bundle']['sha256']}", output, sha256=document["bundle"]["sha256"]
                )


def bundle_file(folder: Path, sha256: str) -> Path:
    """Where an exported algorithm's bundle lies: beside its document."""
    return folder / f"{sha256[:16]}.tar.gz"

"""Read XML from strangers: no document type, no entities, and only the elements that are asked for."""

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from armillary_formats.refusal import Refused, brief


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, *_: Any) -> None:
        raise Refused("it declares a document type, which could expand or load anything")


def tree(data: bytes, name: str) -> ElementTree.Element:
    """The whole document; for documents that are small."""
    parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314 - without a document type there is no bomb
    try:
        parser.feed(data)
        root = parser.close()
    except Refused as error:
        raise Refused(f"{name} is refused: {error}.") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Refused(f"{name} is not whole XML: {brief(error)}.") from error
    assert isinstance(root, ElementTree.Element)
    return root


def first_texts(chunks: Iterable[bytes], wanted: Iterable[str], name: str) -> dict[str, str]:
    """The text of the first element at each wanted path, such as "product/adsHeader/swath".

    An element's attribute is "path@attribute". The document is read to its end, so a cut is found.
    """
    collector = _Collector(frozenset(wanted))
    try:
        for chunk in chunks:
            collector.parser.Parse(chunk, False)
        collector.parser.Parse(b"", True)
    except Refused as error:
        raise Refused(f"{name} is refused: {error}.") from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding that is none
        raise Refused(f"{name} is not whole XML: {brief(error)}.") from error
    return collector.texts


class _Collector:
    """Follows the path of open elements, and lets the parser run free once all is found."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.texts: dict[str, str] = {}
        self._wanted = {path for path in wanted if "@" not in path}
        self._attributes = {path for path in wanted if "@" in path}
        self._path: list[str] = []
        self._pieces: list[str] | None = None
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def _refuse_doctype(self, *_: Any) -> None:
        raise Refused("it declares a document type, which could expand or load anything")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        if len(self._path) > 200:
            raise Refused("its elements are nested more than 200 deep")
        path = "/".join(self._path)
        for attribute, value in attributes.items():
            if (key := f"{path}@{attribute}") in self._attributes:
                self.texts.setdefault(key, value)
        self._pieces = [] if path in self._wanted and path not in self.texts else None

    def _text(self, text: str) -> None:
        if self._pieces is not None:
            self._pieces.append(text)

    def _end(self, _tag: str) -> None:
        if self._pieces is not None:
            self.texts["/".join(self._path)] = "".join(self._pieces).strip()
            self._pieces = None
        self._path.pop()
        if len(self.texts) == len(self._wanted) + len(self._attributes):
            self.parser.StartElementHandler = None
            self.parser.EndElementHandler = None
            self.parser.CharacterDataHandler = None

"""The `q` grammar of files.list: tokenizer, parser, evaluator.

    query   = or-term ;  or-term = and-term {"or" and-term} ;  and-term = not-term {"and" not-term}
    not-term = ["not"] (comparison | "(" query ")")
    comparison = field operator value | value "in" collection | collection "has" "{" key/value pairs "}"

Values are '...' or "..." strings (a backslash escapes a backslash or a quote), true/false, or bare dates.
Precedence: not, and, or.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from driveshard.emulator.errors import ApiError, invalid


class Candidate(Protocol):
    """What a file must offer to be searched; times are milliseconds since the epoch."""

    name: str
    mime_type: str
    description: str
    starred: bool
    created: int
    modified: int
    properties: dict[str, str]
    app_properties: dict[str, str]

    @property
    def searched_parents(self) -> list[str]:
        """Parent ids, aliases such as `root` included."""

    @property
    def searched_people(self) -> dict[str, set[str]]:
        """`owners`, `writers` and `readers` as e-mail addresses."""

    @property
    def searched_trashed(self) -> bool:
        """True when the file or a folder above it is in the trash."""

    @property
    def visibility(self) -> str:
        """`anyoneWithLink`, `anyoneCanFind` or `limited`."""

    @property
    def shortcut_target(self) -> str | None:
        """The id a shortcut points at."""


Predicate = Callable[[Candidate], bool]


@dataclass(frozen=True)
class Query:
    """A parsed query. `parent` is set when every match must lie in that folder: a hint for the store's index."""

    matches: Predicate
    parent: str | None = None


@dataclass(frozen=True)
class Token:
    """A token: kind is `string`, `word` or `symbol`."""

    kind: str
    text: str


_TOKEN = re.compile(
    r"\s*(?:(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")|([A-Za-z0-9_.:+-]+)|(!=|<=|>=|[=<>(){}]))", re.DOTALL
)
_TIMES = {
    "modifiedTime": "modified",
    "createdTime": "created",
    "viewedByMeTime": "modified",
    "sharedWithMeTime": "created",
}
_ORDER: dict[str, Callable[[int, int], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_COLLECTIONS = {"parents", "owners", "writers", "readers"}


def tokenize(text: str) -> list[Token]:
    """Split a query into tokens. Raises ApiError 400 for a stray character or an unclosed quote."""
    tokens = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if not match:
            raise invalid("q")
        single, double, word, symbol = match.groups()
        if word is not None:
            tokens.append(Token("word", word))
        elif symbol is not None:
            tokens.append(Token("symbol", symbol))
        else:
            quoted = double if single is None else single
            tokens.append(Token("string", re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)))
        position = match.end()
    return tokens


def parse_query(text: str) -> Query:
    """Parse a query. Raises ApiError: 400 for bad syntax, an unknown field or a wrong operator.

    `name > 'x'` next to other terms is the real service's 500, alone its 400; both are kept.
    """
    parser = _Parser(tokenize(text))
    query = parser.query()
    if parser.tokens:
        raise invalid("q")
    return query


def parse_time(text: str) -> int:
    """RFC 3339 (any number of decimals; UTC when no zone is given) to milliseconds. Raises ValueError."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:?\d\d)?)?", text)
    if not match:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    day, clock, decimals, zone = match.groups()
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    moment = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{offset}").astimezone(UTC)
    return int(moment.timestamp()) * 1000 + int(((decimals or "") + "000")[:3])


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.compound = len({"and", "or"} & {token.text for token in tokens if token.kind == "word"}) > 0

    def query(self) -> Query:
        """``term`` joined by ``and`` and ``or``."""
        terms = [self._and()]
        while self._take_word("or"):
            terms.append(self._and())
        if len(terms) == 1:
            return terms[0]
        tests = [term.matches for term in terms]
        return Query(lambda file: any(test(file) for test in tests))

    def _and(self) -> Query:
        terms = [self._not()]
        while self._take_word("and"):
            terms.append(self._not())
        if len(terms) == 1:
            return terms[0]
        tests = [term.matches for term in terms]
        parent = next((term.parent for term in terms if term.parent), None)
        return Query(lambda file: all(test(file) for test in tests), parent)

    def _not(self) -> Query:
        if self._take_word("not"):
            inner = self._not().matches
            return Query(lambda file: not inner(file))
        if self._take_symbol("("):
            query = self.query()
            self._need_symbol(")")
            return query
        return self._comparison()

    def _comparison(self) -> Query:
        token = self._next()
        if token.kind == "string":
            self._need_word("in")
            return self._membership(token.text)
        if token.kind != "word":
            raise invalid("q")
        if token.text in ("properties", "appProperties"):
            self._need_word("has")
            return self._property(token.text)
        operator = self._next()
        if operator.kind == "string" or (operator.kind == "word" and operator.text not in ("contains", "in")):
            raise invalid("q")
        return Query(self._field(token.text, operator.text, self._next()))

    def _membership(self, value: str) -> Query:
        collection = self._next().text
        if collection not in _COLLECTIONS:
            raise invalid("q")
        if collection == "parents":
            return Query(lambda file: value in file.searched_parents, value)
        return Query(lambda file: value in file.searched_people[collection])

    def _property(self, collection: str) -> Query:
        self._need_symbol("{")
        wanted: dict[str, str] = {}
        while not self._take_symbol("}"):
            name = self._next().text
            self._need_symbol("=")
            value = self._next()
            if name not in ("key", "value", "visibility") or value.kind != "string" or name in wanted:
                raise invalid("q")
            wanted[name] = value.text
            if not self._take_word("and"):
                self._need_symbol("}")
                break
        if not {"key", "value"} <= wanted.keys():
            raise invalid("q")
        attribute = "app_properties" if collection == "appProperties" else "properties"

        def has(file: Candidate) -> bool:
            held: dict[str, str] = getattr(file, attribute)
            return held.get(wanted["key"]) == wanted["value"]

        return Query(has)

    def _field(self, name: str, operator: str, value: Token) -> Predicate:
        if name in _TIMES:
            return _time_test(_TIMES[name], operator, value)
        if name in ("trashed", "starred", "sharedWithMe"):
            return _flag_test(name, operator, value)
        if value.kind != "string":
            raise invalid("q")
        if name == "name":
            return self._name_test(operator, value.text)
        if name == "fullText" and operator == "contains":
            return lambda file: _contains(file.name, value.text) or _contains(file.description, value.text)
        if name == "mimeType":
            return _text_test(lambda file: file.mime_type, operator, value.text, prefix=True)
        if name == "visibility":
            return _text_test(lambda file: file.visibility, operator, value.text)
        if name == "shortcutDetails.targetId":
            return _text_test(lambda file: file.shortcut_target or "", operator, value.text)
        raise invalid("q")

    def _name_test(self, operator: str, text: str) -> Predicate:
        if operator in ("<", "<=", ">", ">="):
            if self.compound:
                raise ApiError(500, "internalError", "Internal Error")
            raise invalid("q")
        if operator == "contains":
            return lambda file: _contains(file.name, text)
        # The case rule of `name =` is undocumented; the wider one catches clients that do not compare again.
        return _text_test(lambda file: file.name.casefold(), operator, text.casefold())

    def _next(self) -> Token:
        if not self.tokens:
            raise invalid("q")
        return self.tokens.pop(0)

    def _take(self, kind: str, text: str) -> bool:
        if self.tokens and self.tokens[0] == Token(kind, text):
            self.tokens.pop(0)
            return True
        return False

    def _take_word(self, text: str) -> bool:
        return self._take("word", text)

    def _take_symbol(self, text: str) -> bool:
        return self._take("symbol", text)

    def _need_word(self, text: str) -> None:
        if not self._take_word(text):
            raise invalid("q")

    def _need_symbol(self, text: str) -> None:
        if not self._take_symbol(text):
            raise invalid("q")


def _contains(haystack: str, needle: str) -> bool:
    """Prefix matching at word starts, without regard to case: `contains 'wor'` finds `hello world`."""
    folded, wanted = haystack.casefold(), needle.casefold()
    start = folded.find(wanted)
    while start >= 0:
        if start == 0 or not folded[start - 1].isalnum() or not wanted[:1].isalnum():
            return True
        start = folded.find(wanted, start + 1)
    return False


def _text_test(get: Callable[[Candidate], str], operator: str, text: str, *, prefix: bool = False) -> Predicate:
    if operator == "=":
        return lambda file: get(file) == text
    if operator == "!=":
        return lambda file: get(file) != text
    if operator == "contains" and prefix:
        return lambda file: get(file).startswith(text)
    raise invalid("q")


def _time_test(attribute: str, operator: str, value: Token) -> Predicate:
    if operator not in _ORDER:
        raise invalid("q")
    try:
        moment = parse_time(value.text)
    except ValueError:
        raise invalid("q") from None
    compare = _ORDER[operator]
    return lambda file: compare(getattr(file, attribute), moment)


def _flag_test(name: str, operator: str, value: Token) -> Predicate:
    if operator not in ("=", "!=") or value != Token("word", value.text) or value.text not in ("true", "false"):
        raise invalid("q")
    wanted = (value.text == "true") == (operator == "=")
    if name == "trashed":
        return lambda file: file.searched_trashed == wanted
    if name == "starred":
        return lambda file: file.starred == wanted
    return lambda file: not wanted

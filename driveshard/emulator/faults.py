"""Fault words: what can be made to go wrong, on which requests, and the plan that decides when.

A plan is `word[:kind][@N][*K][%P][=S]`, comma separated:

    @N    begin at the Nth matching request (1-based, default 1)
    *K    hit K matching requests in a row (default 1); `*` alone: for ever
    %P    hit each matching request from @N on with a probability of P percent (seeded); with *K at most K times
    =S    how long it lasts, in seconds, for a word that lasts (outage, list-lag)
    :kind match these requests instead of the word's own (a key of KINDS), e.g. `503:permission`; a word that
          acts on a chunk or on a finished upload does nothing to other requests

A request is hit by one word at most; words after the one that hit do not count that request. The words in ALSO say
how a request fails, not that it does: they hit beside another one.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from dataclasses import dataclass, field

from driveshard.emulator.errors import (
    HTML_ERROR,
    ApiError,
    BareError,
    bad_key,
    download_quota_exceeded,
    invalid_credentials,
    scope_missing,
)
from driveshard.emulator.wire import Reply

KINDS = {
    "call": "any API call, uploads and session requests included; not pages, tokens or /_emulator",
    "write": "creates, updates, deletes, copies, permission changes, upload starts; not chunks",
    "start": "the start of an upload that brings content: resumable initiation, media, multipart",
    "initiation": "the start of a resumable session",
    "create-id": "a create (metadata or initiation) whose metadata names an id",
    "new": "what begins a new item: metadata create, copy, the start of an upload that is no update",
    "create": "a request that makes a file or folder exist: metadata create, copy, last request of a new upload",
    "session": "any request to a session URI",
    "chunk": "a session request that carries content, the last one included",
    "final": "a request that completes an upload: last chunk, media, multipart",
    "body": "a request that carries upload content: chunks, media, multipart",
    "query": "a status query of a session",
    "get": "files.get of metadata",
    "list": "files.list",
    "download": "content: alt=media and the pages' download links",
    "permission": "permissions.create",
    "token": "the token service, which no word reaches unless it names it",
}


@dataclass(frozen=True)
class Fault:
    """A fault word: the kind of request it matches (a key of KINDS) and what the server then does."""

    word: str
    matches: str
    does: str


FAULTS: tuple[Fault, ...] = (
    Fault("503", "call", "answers 503 backendError; a chunk's bytes are read and not kept"),
    Fault("500", "call", "answers 500 internalError; a chunk's bytes are read and not kept"),
    Fault("502-html", "call", "answers 502 with Google's HTML error page"),
    Fault("408", "call", "answers 408 with an HTML page"),
    Fault("429", "call", "answers 429 rateLimitExceeded"),
    Fault("429-html", "call", 'answers 429 with the HTML page "We\'re sorry... automated queries"'),
    Fault("403-userRateLimit", "call", "answers 403 userRateLimitExceeded"),
    Fault("403-userRateLimit-dot", "call", 'the same reason with the text "User rate limit exceeded."'),
    Fault("403-rateLimit", "call", "answers 403 rateLimitExceeded"),
    Fault("403-queries", "call", "answers 403 rateLimitExceeded as of 2026: quota metric 'Queries', with details"),
    Fault(
        "403-dailyCap",
        "write",
        'the cap of bytes a day: 403 userRateLimitExceeded "User rate limit exceeded." to this and every further write'
        " until the faults are replaced or a restart",
    ),
    Fault("403-projectCap", "write", "the project owner's cap: the same with dailyLimitExceeded"),
    Fault("403-storageFull", "start", "answers 403 storageQuotaExceeded"),
    Fault("403-storageFull-chunk", "chunk", "the same on a chunk, its bytes not kept, in the domain usageLimits"),
    Fault("403-itemLimit", "new", "answers 403 teamDriveFileLimitExceeded: the shared drive holds no more items"),
    Fault("403-bare", "call", "answers 403 PERMISSION_DENIED in the newer form, without errors[]"),
    Fault("429-bare", "call", "answers 429 RESOURCE_EXHAUSTED in the newer form, without errors[]"),
    Fault("403-scope", "call", "answers 403 insufficientPermissions: the token lacks a scope"),
    Fault("400-key", "call", "answers 400: the API key is not valid"),
    Fault("403-key-blocked", "call", "answers 403 forbidden: the API key may not be used for Drive"),
    Fault(
        "401-expired",
        "call",
        "refuses the bearer token in use for good with 401 authError; the token `emulator` for this request only",
    ),
    Fault(
        "reset",
        "body",
        "reads half of the body, keeps whole 256 KiB units, resets the connection; sends half of a file",
    ),
    Fault(
        "drop",
        "call",
        "resets the connection: in a body at a random place, keeping whole 256 KiB units, or in a download, else before"
        " anything is done",
    ),
    Fault("outage", "call", "drops this and all other connections, and every new one for S seconds (30)"),
    Fault("tenth", "call", "from now on the bandwidth is a tenth of what it was"),
    Fault("keep-nothing", "body", "if the request breaks off, by a word or by its client, nothing of it is kept"),
    Fault("early", "body", "a refusal goes out at once, while the body still comes; then the connection is closed"),
    Fault("503-after-256K", "chunk", "keeps the first 256 KiB of the chunk, reads the rest, answers 503"),
    Fault("reset-before-reply", "chunk", "accepts and stores everything, resets the connection before the reply"),
    Fault(
        "stall",
        "chunk",
        "keeps 256 KiB, then reads nothing and answers nothing for 10 minutes (or until stop); sends half of a file",
    ),
    Fault("slow-session", "initiation", "the session begun by this request takes 64 KiB a second"),
    Fault("308-short", "chunk", "keeps the first half of what was sent (whole 256 KiB units) and answers 308"),
    Fault("308-no-range", "chunk", "the session forgets every byte and answers 308 without Range"),
    Fault("lost-final", "final", "the upload completes and the file exists; the connection is reset without a reply"),
    Fault("final-201", "final", "completes with 201 instead of 200"),
    Fault("session-404", "session", "the session is gone for good: 404 now and ever after"),
    Fault("session-410", "session", "the session is gone for good: 410 now and ever after"),
    Fault("wrong-md5", "final", "flips a bit of the stored content, so that content and checksums are wrong"),
    Fault("md5-late", "final", "md5/sha1/sha256 are missing from the reply and from the first 2 files.get"),
    Fault(
        "list-lag", "create", "the new file is absent from lists until 3 lists or 5 seconds later (or S); not from get"
    ),
    Fault("409-id-in-use", "create-id", "the id turns out to be somebody else's file: 409 for ever, files.get 404"),
    Fault("publish-refused", "permission", "answers 403 publishOutNotPermitted"),
    Fault("download-quota", "download", "answers 403 downloadQuotaExceeded; the site its page, with 200"),
    Fault("wrong-bytes", "download", "one bit of what is sent is wrong"),
    Fault("403-html", "download", "answers 403 with the HTML page of 429-html"),
)
ALSO = frozenset({"keep-nothing", "early"})
CAPS = ("403-dailyCap", "403-projectCap")
OUTAGE_SECONDS = 30.0

WORDS = {fault.word: fault for fault in FAULTS}
_CLAUSE = re.compile(r"(?P<word>[^:@*%=]+)(?::(?P<kind>[a-z-]+))?(?P<marks>(?:[@*%=][\d.]*)*)$")
_MARK = re.compile(r"([@*%=])([\d.]*)")


def describe_faults() -> str:
    """The table of words as text, one a line: word, the requests it matches, what it does."""
    head = "Fault words: word[:kind][@N][*K][%P][=S], comma separated; what they match and do:"
    return "\n".join([head, *(f"  {fault.word:22} {fault.matches:11} {fault.does}" for fault in FAULTS)])


@dataclass
class Clause:
    """One parsed word of a plan with its counters: matching requests seen, hits made. `seconds`: how long it lasts."""

    word: str
    kind: str
    at: int
    times: int | None
    percent: float | None
    seconds: float | None = None
    seen: int = field(default=0, compare=False)
    hits: int = field(default=0, compare=False)

    def hit(self, dice: random.Random) -> bool:
        """Count one matching request and say whether it is hit."""
        self.seen += 1
        if self.times is not None and self.hits >= self.times:
            return False
        hit = self.seen >= self.at and (self.percent is None or dice.random() * 100 < self.percent)
        self.hits += hit
        return hit


def parse_faults(words: str) -> list[Clause]:
    """Parse a plan. Raises ValueError that names the bad word and lists the known ones."""
    return [_parse_clause(text.strip()) for text in words.split(",") if text.strip()]


def _parse_clause(text: str) -> Clause:
    match = _CLAUSE.match(text)
    if not match or match["word"] not in WORDS:
        raise ValueError(f"unknown fault {text!r}; the words are: {', '.join(WORDS)}")
    kind = match["kind"] or WORDS[match["word"]].matches
    if kind not in KINDS:
        raise ValueError(f"unknown kind of request in {text!r}; the kinds are: {', '.join(KINDS)}")
    marks = dict(_MARK.findall(match["marks"]))
    try:
        at = int(marks.get("@", "1"))
        percent = float(marks["%"]) if "%" in marks else None
        # A bare star means for ever, and so does a probability without a star.
        seconds = float(marks["="]) if "=" in marks else None
        times = int(marks["*"]) if marks.get("*") else None if marks.keys() & {"*", "%"} else 1
    except ValueError:
        raise ValueError(f"not a number in {text!r}: @N, *K, %P and =S") from None
    if at < 1 or times == 0 or not 0 <= (percent or 0) <= 100:
        raise ValueError(f"out of range in {text!r}: @N and *K begin at 1, %P is a percentage from 0 to 100")
    return Clause(match["word"], kind, at, times, percent, seconds)


class FaultPlan:
    """Decides for each request which fault hits it. Thread-safe; the same seed and requests give the same faults."""

    def __init__(self, words: str = "", seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.fired: Counter[str] = Counter()
        self.replace(words, seed)

    def replace(self, words: str, seed: int = 0) -> None:
        """Take a new plan; counters start anew and a lasting daily cap is lifted. Raises ValueError for a bad word."""
        clauses = parse_faults(words)
        with self._lock:
            self.words = words
            self._clauses = clauses
            self._dice = random.Random(seed)
            self._cap: Clause | None = None

    def pick(self, kinds: frozenset[str]) -> Clause | None:
        """The clause that hits a request of these kinds, or None."""
        with self._lock:
            found = self._cap if "write" in kinds else None
            if found is None:
                mine = (c for c in self._clauses if c.word not in ALSO and c.kind in kinds)
                found = next((clause for clause in mine if clause.hit(self._dice)), None)
            if found is not None:
                self.fired[found.word] += 1
                self._cap = found if found.word in CAPS else self._cap
            return found

    def also(self, kinds: frozenset[str]) -> frozenset[str]:
        """The words that say how a request of these kinds fails, if it does."""
        with self._lock:
            found = {c.word for c in self._clauses if c.word in ALSO and c.kind in kinds and c.hit(self._dice)}
            self.fired.update(found)
            return frozenset(found)

    def place(self) -> float:
        """A random place in a body, from 0 to 1."""
        with self._lock:
            return self._dice.random()


SORRY = """<html><head><title>Sorry...</title></head><body><h1>We're sorry...</h1>
<p>... but your computer or network may be sending automated queries.
To protect our users, we can't process your request right now.</p></body></html>
"""


def fault_reply(word: str) -> Reply | None:
    """The reply of a fault that answers instead of the handler; None for faults that act elsewhere."""
    if word == "502-html":
        text = "The server encountered a temporary error and could not complete your request."
        return Reply.html(HTML_ERROR.format(status=502, phrase="Server Error", text=text), 502)
    if word == "408":
        text = "Your client has taken too long to issue its request."
        return Reply.html(HTML_ERROR.format(status=408, phrase="Request Timeout", text=text), 408)
    if word in ("429-html", "403-html"):
        return Reply(int(word[:3]), SORRY.encode(), {"Content-Type": "text/html"})
    error = _ERRORS.get(word)
    return error.reply() if error else None


FULL = "The user's Drive storage quota has been exceeded."
_ERRORS = {
    "503": ApiError(503, "backendError", "Service Unavailable. Please try again."),
    "500": ApiError(500, "internalError", "Internal Error"),
    "429": ApiError(429, "rateLimitExceeded", "Rate Limit Exceeded", domain="usageLimits"),
    "403-userRateLimit": ApiError(
        403,
        "userRateLimitExceeded",
        "User Rate Limit Exceeded. Rate of requests for user exceed configured project quota, you may consider"
        " re-evaluating expected per-user traffic to the API and adjust project quota limits accordingly.",
        domain="usageLimits",
    ),
    "403-userRateLimit-dot": ApiError(403, "userRateLimitExceeded", "User rate limit exceeded.", domain="usageLimits"),
    "403-rateLimit": ApiError(403, "rateLimitExceeded", "Rate Limit Exceeded", domain="usageLimits"),
    "403-queries": ApiError(
        403,
        "rateLimitExceeded",
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'drive.googleapis.com' for"
        " consumer 'project_number:1'.",
        domain="usageLimits",
        canonical="PERMISSION_DENIED",
        info={"reason": "RATE_LIMIT_EXCEEDED", "quota_limit": "defaultPerMinutePerProject"},
    ),
    "403-dailyCap": ApiError(403, "userRateLimitExceeded", "User rate limit exceeded.", domain="usageLimits"),
    "403-projectCap": ApiError(403, "dailyLimitExceeded", "Daily Limit Exceeded", domain="usageLimits"),
    "403-storageFull": ApiError(403, "storageQuotaExceeded", FULL),
    "403-storageFull-chunk": ApiError(403, "storageQuotaExceeded", FULL, domain="usageLimits"),
    "403-itemLimit": ApiError(
        403, "teamDriveFileLimitExceeded", "The file limit for this shared drive has been exceeded."
    ),
    "403-bare": BareError(403, "PERMISSION_DENIED", "The caller does not have permission"),
    "429-bare": BareError(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "403-scope": scope_missing(),
    "400-key": bad_key(),
    "403-key-blocked": ApiError(
        403,
        "forbidden",
        "Requests to this API drive method google.apps.drive.v3.DriveFiles.Get are blocked.",
        canonical="PERMISSION_DENIED",
        info={"reason": "API_KEY_SERVICE_BLOCKED"},
    ),
    "401-expired": invalid_credentials(),
    "publish-refused": ApiError(403, "publishOutNotPermitted", ""),
    "download-quota": download_quota_exceeded(),
}

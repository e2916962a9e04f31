"""Which known word was meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 100  # characters; beyond that nobody mistyped a word


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` may have been meant as; None when none is so near that one would see it at once.

    Near is one slip (a letter too many, too few, another, or two in the wrong order) in a word of up to four letters,
    two in one of up to eight, three in a longer one; or a beginning of at least three letters.
    """
    wanted = _plain(word)
    if not wanted or len(wanted) > _LONGEST:
        return None
    best = min(((_distance(wanted, _plain(one)), one) for one in known), default=None)
    return best[1] if best is not None and best[0] <= _allowed(len(wanted)) else None


def nearest(word: str, known: Iterable[str]) -> str:
    """Advice that names the known word that was probably meant, or all of them."""
    words = sorted(known)
    close = near(word, words)
    return f"Did you mean {close}?" if close else f"Known are: {', '.join(words)}."


def _plain(word: str) -> str:
    return word.casefold().replace("_", "-").strip("-")


def _allowed(length: int) -> int:
    return 1 if length <= 4 else 2 if length <= 8 else 3


def _distance(word: str, known: str) -> int:
    """Slips between two words (optimal string alignment); 1 where one is the other's beginning."""
    if min(len(word), len(known)) >= 3 and (known.startswith(word) or word.startswith(known)):
        return 0 if word == known else 1
    before: list[int] = []
    row = list(range(len(known) + 1))
    for i, letter in enumerate(word, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(known, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == known[j - 2] and word[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]

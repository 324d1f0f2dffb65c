"""What people said, by plain dictionaries, and the labels that follow from it: a count by hand, to judge the ledger.

Of the ledger it takes which states it has stored and which annotations stand, and nothing of what it makes of them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# An annotation: ids are given out again by a server that was set back, moments are not.
Key = tuple[int, datetime]


@dataclass(frozen=True)
class Said:
    """One state of an annotation."""

    sample: str | None
    round: str | None
    choices: tuple[str, ...]
    cancelled: bool
    lead_time: float | None


class Truth:
    """Everything that happened.

    Parameters
    ----------
    class_names : sequence of str
    min_votes, max_skips : int
    min_seconds : float
    """

    def __init__(self, class_names: Sequence[str], *, min_votes: int, max_skips: int, min_seconds: float) -> None:
        self.min_votes, self.max_skips, self.min_seconds = min_votes, max_skips, min_seconds
        self.names = list(class_names)
        # What every name that was a class means today.
        self.means: dict[str, str | None] = {name: name for name in class_names}
        self.states: defaultdict[Key, dict[datetime, Said]] = defaultdict(dict)
        self.authors: dict[Key, str] = {}
        self.guesses: set[Key] = set()
        self.originals: dict[Key, Key] = {}
        self.import_ids: dict[Key, int] = {}
        # As whom the ledger can know an annotation's author; states that say no more than what they are copies of.
        self.known_as: dict[Key, str] = {}
        self.copied: set[tuple[Key, datetime]] = set()
        self.stored: defaultdict[Key, set[datetime]] = defaultdict(set)

    def see(self, annotation: Mapping[str, Any], data: Mapping[str, Any], author: str | None) -> Key:
        """Take note of an annotation as it is now."""
        key = (annotation["id"], datetime.fromisoformat(annotation["created_at"]))
        chosen = [part["value"]["choices"] for part in annotation["result"] if part["from_name"] == "label"]
        self.states[key][datetime.fromisoformat(annotation["updated_at"])] = Said(
            data.get("sample_id"),
            data.get("round"),
            tuple(name for part in chosen for name in part),
            annotation["was_cancelled"],
            annotation["lead_time"],
        )
        if author is not None:
            self.authors.setdefault(key, author)
        return key

    def store(self, events: Iterable[tuple[Key, datetime]], accounts: Iterable[str]) -> None:
        """Take note of what a pull has stored while these people had an account."""
        accounts, new = set(accounts), list[tuple[Key, datetime]]()
        for key, at in events:
            # The ledger makes states of its own for what was taken back.
            if at in self.states[key] and at not in self.stored[key]:
                self.stored[key].add(at)
                new.append((key, at))
        for key, _ in sorted(new, key=lambda each: each[0] in self.originals):
            if key not in self.known_as:
                self.known_as[key] = self._known(key, accounts)
        for key, at in new:
            first, said = self.originals.get(key), self.states[key][at]
            before = [self.states[first][then] for then in self.stored[first]] if first else []
            if any((each.choices, each.cancelled) == (said.choices, said.cancelled) for each in before):
                self.copied.add((key, at))

    def labels(self, standing: Iterable[Key], planned: set[tuple[str, str]]) -> dict[str, str]:
        """Return the labels: more than half of those who said something of today's classes, if they are enough."""
        found: dict[str, str] = {}
        for sample, votes in self._votes(standing, planned).items():
            value, most = votes.most_common(1)[0]
            if votes.total() >= self.min_votes and 2 * most > votes.total():
                found[sample] = value
        return found

    def disputed(self, standing: Iterable[Key], planned: set[tuple[str, str]]) -> set[str]:
        """Return the samples that enough people disagree about."""
        votes = self._votes(standing, planned)
        enough = {sample for sample, found in votes.items() if found.total() >= self.min_votes}
        return enough - self.labels(standing, planned).keys()

    def settled(self, standing: Iterable[Key], planned: set[tuple[str, str]]) -> set[str]:
        """Return the samples that were skipped, or answered with no class, so often that nobody is asked again.

        Of two people who are asked one may have skipped: whoever loses that task has not lost a label.
        """
        times: Counter[str] = Counter()
        for key in standing:
            said = self.latest(key)
            if key not in self.guesses and said.sample is not None:
                times[said.sample] += said.cancelled or bool(said.choices and self._value(said) is None)
                times[said.sample] += self._hasty(said)
        voted = self._votes(standing, planned)
        return {sample for sample, n in times.items() if n >= self.max_skips or (n and sample in voted)}

    def latest(self, key: Key) -> Said:
        """Return the latest state that was stored."""
        return self.states[key][max(self.stored[key])]

    def rename(self, old: str, new: str) -> None:
        """Give a class another name."""
        self._become({old: new}, [new if name == old else name for name in self.names])

    def merge(self, olds: Sequence[str], into: str) -> None:
        """Make one class of several."""
        left = [name for name in self.names if name not in olds or name == into]
        self._become(dict.fromkeys(olds, into), left if into in left else [*left, into])

    def split(self, old: str, into: Sequence[str]) -> None:
        """Make several classes of one: nobody knows which of them was meant."""
        self._become({old: None}, [*(name for name in self.names if name != old), *into])

    def remove(self, old: str) -> None:
        """Ask for a class no more."""
        self._become({old: None}, [name for name in self.names if name != old])

    def add(self, new: Sequence[str]) -> None:
        """Ask for further classes."""
        self._become({}, [*self.names, *new])

    def today(self, name: str) -> str | None:
        """Return the class of today that a name means."""
        return self.means.get(name, name)

    def _become(self, change: Mapping[str, str | None], names: list[str]) -> None:
        self.means = {old: change.get(now, now) if now is not None else None for old, now in self.means.items()}
        self.means |= {name: name for name in names}
        self.names = names

    def _known(self, key: Key, accounts: set[str]) -> str:
        if (first := self.originals.get(key)) is not None:
            return self.known_as.get(first, f"whoever made {self.import_ids[key]}")
        return self.authors[key] if self.authors[key] in accounts else f"whoever made {key[0]}"

    def _votes(self, standing: Iterable[Key], planned: set[tuple[str, str]]) -> dict[str, Counter[str]]:
        latest: dict[tuple[str, str], tuple[datetime, int, str | None]] = {}
        for key in standing:
            at, said = max(self.stored[key]), self.latest(key)
            # Whoever edits the copy of a guess has answered: while it says the same, it is a copy.
            guess = key in self.guesses and key not in self.originals
            if guess or (key, at) in self.copied or (said.round, said.sample) not in planned:
                continue
            # A slip of the hand says nothing.
            if self._hasty(said) or (not said.cancelled and len(said.choices) != 1):
                continue
            person = (str(said.sample), self.known_as[key])
            latest[person] = max(
                latest.get(person, (at, -1, None)), (at, key[0], self._value(said)), key=lambda x: x[:2]
            )
        votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (sample, _), (_, _, value) in latest.items():
            if value is not None:
                votes[sample][value] += 1
        return votes

    def _value(self, said: Said) -> str | None:
        """Return the class of today that was said."""
        if said.cancelled or len(said.choices) != 1 or self._hasty(said):
            return None
        value = self.today(said.choices[0])
        return value if value in self.names else None

    def _hasty(self, said: Said) -> bool:
        return not said.cancelled and said.lead_time is not None and 0 < said.lead_time < self.min_seconds

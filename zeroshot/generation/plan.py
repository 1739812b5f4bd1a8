"""What is asked for, row by row: pure, seeded, and the same whatever was answered before.

Names are dealt from one shuffled deck per kind, which is shuffled anew when it runs out, so no name is dealt a third time
before every one of its kind was dealt twice. Kinds are drawn in proportion to how many names they have. Item i does not
depend on how many rows are wanted: the plan of n items begins that of any m > n.
"""

import random
from collections.abc import Container, Mapping
from dataclasses import dataclass

from .arguments import GenerationArguments, LabelKind


@dataclass(frozen=True)
class PlanItem:
    """One text to be written."""

    index: int
    labels: tuple[tuple[str, str], ...]  # (kind, name)
    candidates: tuple[str, ...]  # names offered as negatives
    style: str
    length: str
    register: str
    language: str

    @property
    def label_names(self) -> list[str]:
        """The labels without their kinds."""
        return [name for _, name in self.labels]


class Deck:
    """Names of a kind in shuffled order, without end."""

    def __init__(self, names: list[str], seed: str):
        self.names = names
        self._seed = seed
        self._shuffles = 0
        self._cards: list[str] = []

    def draw(self, excluded: Container[str]) -> str | None:
        """Take the first card that is not excluded; the ones before it stay first. None if all names are excluded."""
        if all(name in excluded for name in self.names):
            return None
        position = next((i for i, name in enumerate(self._cards) if name not in excluded), None)
        if position is None:
            fresh = list(self.names)
            random.Random(f"{self._seed}-{self._shuffles}").shuffle(fresh)
            self._shuffles += 1
            position = len(self._cards) + next(i for i, name in enumerate(fresh) if name not in excluded)
            self._cards += fresh
        return self._cards.pop(position)


class Plan:
    """The items of a recipe over a pool of names."""

    def __init__(self, pool: Mapping[str, list[str]], arguments: GenerationArguments):
        """Check that items can be dealt at all.

        Args:
            pool: Names by kind.
            arguments: Seed, numbers and lists of the recipe.

        Raises:
            ValueError: If the pool is too small.
        """
        self._pool = {kind: list(names) for kind, names in pool.items()}
        self._arguments = arguments
        self._labels = {kind: Deck(names, f"{arguments.seed}-labels-{kind}") for kind, names in self._pool.items()}
        self._negatives = {kind: Deck(names, f"{arguments.seed}-negatives-{kind}") for kind, names in self._pool.items()}
        self._most = {kind: self._limit(arguments.kinds[kind]) for kind in self._pool}
        self._items: list[PlanItem] = []
        reach = sum(self._most.values())
        if reach < arguments.max_labels:
            raise ValueError(
                f"Expected label kinds that give a text {arguments.max_labels} labels, found names for {reach}. "
                "Lower max_labels, or add names or kinds."
            )
        size = sum(map(len, self._pool.values()))
        if size < arguments.max_labels + arguments.max_negatives:
            raise ValueError(
                f"Expected at least {arguments.max_labels + arguments.max_negatives} names (max_labels + max_negatives), "
                f"found {size}. Add names, or lower one of the two."
            )

    def _limit(self, kind: LabelKind) -> int:
        """Most labels of a kind in a text; where there are several kinds, one label is always of another."""
        most = kind["size"] if kind["most"] is None else kind["most"]
        several = len(self._pool) > 1 and self._arguments.max_labels > 1
        return min(most, kind["size"], self._arguments.max_labels - 1 if several else self._arguments.max_labels)

    def item(self, index: int) -> PlanItem:
        """Item number `index`, from 0."""
        while len(self._items) <= index:
            self._items.append(self._deal(len(self._items)))
        return self._items[index]

    def _deal(self, index: int) -> PlanItem:
        arguments = self._arguments
        generator = random.Random(f"{arguments.seed}-{index}")
        number = generator.randint(arguments.min_labels, arguments.max_labels)
        labels = self._deal_labels(number, generator)
        return PlanItem(
            index=index,
            labels=tuple(labels),
            candidates=tuple(self._deal_candidates(labels, generator)),
            style=generator.choice(arguments.styles),
            length=generator.choice(arguments.lengths),
            register=generator.choice(arguments.registers),
            language=generator.choice(arguments.languages),
        )

    def _deal_labels(self, number: int, generator: random.Random) -> list[tuple[str, str]]:
        labels: list[tuple[str, str]] = []
        while len(labels) < number:
            kinds = [kind for kind, _ in labels]
            open_kinds = [kind for kind in self._pool if kinds.count(kind) < self._most[kind]]
            if len(labels) == number - 1 and len(set(kinds)) == 1 and len(open_kinds) > 1:
                open_kinds = [kind for kind in open_kinds if kind not in kinds]  # the last label comes from another kind
            kind = generator.choices(open_kinds, [len(self._pool[kind]) for kind in open_kinds])[0]
            name = self._labels[kind].draw([name for _, name in labels])
            assert name is not None  # a kind is open only while it has names left
            labels.append((kind, name))
        return labels

    def _deal_candidates(self, labels: list[tuple[str, str]], generator: random.Random) -> list[str]:
        """Names that the text must not carry: half from the kinds of its labels, half from all others."""
        taken = [name for _, name in labels]
        own = list(dict.fromkeys(kind for kind, _ in labels))
        others = [kind for kind in self._pool if kind not in own]
        candidates: list[str] = []
        for kinds, limit in ((own, (self._arguments.num_candidates + 1) // 2), (others, self._arguments.num_candidates)):
            candidates += self._draw_from(kinds, limit - len(candidates), [*taken, *candidates], generator)
        # Where the other kinds are too small, or there are none, the kinds of the labels fill up.
        candidates += self._draw_from(
            own, self._arguments.num_candidates - len(candidates), [*taken, *candidates], generator
        )
        generator.shuffle(candidates)
        return candidates

    def _draw_from(self, kinds: list[str], number: int, taken: list[str], generator: random.Random) -> list[str]:
        drawn: list[str] = []
        kinds = list(kinds)
        while kinds and len(drawn) < number:
            kind = generator.choices(kinds, [len(self._pool[kind]) for kind in kinds])[0]
            name = self._negatives[kind].draw([*taken, *drawn])
            if name is None:
                kinds.remove(kind)
            else:
                drawn.append(name)
        return drawn

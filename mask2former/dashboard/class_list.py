"""One numbering of a data set's classes for all parts of a report, however the data set numbers things and stuff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.data.catalog import Metadata


@dataclass(frozen=True)
class ClassList:
    """K classes, each known by its place 0 to K - 1.

    Attributes:
        names: [K].
        places: category id of the annotation files -> place. Empty: the ids are the places.
        things: places of countable objects.
        labels: semantic label -> place. Empty: the labels are the places.
    """

    names: Sequence[str]
    places: Mapping[int, int]
    things: frozenset[int]
    labels: Mapping[int, int]

    @classmethod
    def of(cls, metadata: Metadata, tasks: Sequence[str]) -> ClassList:
        """Return the classes of a data set that ``tasks`` ("panoptic", "instance", "semantic") score.

        Places are the contiguous ids. If a thing and a stuff class share one, as in Detectron2's "separated" panoptic
        sets, things come first and stuff after them. Names come from whichever lists the metadata has: of all classes,
        or of the things or the stuff alone. A class without a name is called by its number.
        """
        things = dict(metadata.get("thing_dataset_id_to_contiguous_id") or {})
        instance_only = list(tasks) == ["instance"]
        stuff = {} if instance_only else dict(metadata.get("stuff_dataset_id_to_contiguous_id") or {})
        contiguous = {**stuff, **things}
        listed: Sequence[str] = metadata.get("thing_classes" if instance_only else "stuff_classes") or ()
        places, labels = contiguous, dict[int, int]()
        if len(set(contiguous.values())) < len(contiguous):
            order = sorted(contiguous, key=lambda id_: (id_ not in things, contiguous[id_]))
            places, listed = {id_: place for place, id_ in enumerate(order)}, ()
            labels = {label: places[id_] for id_, label in stuff.items()}
        names = dict(enumerate(listed))
        for id_, place in places.items():
            names[place] = _name("thing" if id_ in things else "stuff", id_, contiguous[id_], metadata)
        number = max(names, default=-1) + 1
        known = [names.get(place, str(place)) for place in range(number)]
        return cls(known, places, frozenset(places[id_] for id_ in things), labels)

    def of_labels(self, labels: np.ndarray) -> np.ndarray:
        """Return the places of semantic labels, both int64 [N]."""
        return np.array([self.labels[label] for label in labels.tolist()], np.int64) if self.labels else labels

    def of_files(self, categories: np.ndarray) -> np.ndarray:
        """Return the places of category ids of the annotation files, both int64 [N].

        Raises:
            ValueError: a category is not in the metadata.
        """
        known = self.places or {place: place for place in range(len(self.names))}
        strange = sorted(set(categories.tolist()) - known.keys())
        if strange:
            raise ValueError(
                f"the categories {strange} are in the annotations or in the results, but the data set's metadata "
                f"(thing_dataset_id_to_contiguous_id and the like) knows only {sorted(known)}"
            )
        return np.array([known[category] for category in categories.tolist()], np.int64)


def _name(kind: str, id_: int, number: int, metadata: Metadata) -> str:
    """Find a class's name in the list of its kind, which may hold only that kind or all classes; tell by its length."""
    numbers = metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
    names = metadata.get(f"{kind}_classes") or ()
    place = sorted(numbers.values()).index(numbers[id_]) if len(names) == len(numbers) else number
    return names[place] if place < len(names) else str(number)

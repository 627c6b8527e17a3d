"""Which labels of a dataset count, what their classes are called, and which of them are held back.

Planning imports this: NumPy is imported only where it is needed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.suggestions import list_names, suggest
from stages.core.task_labels import list_held_back, list_labels
from stages.data.sources.sample import Sample


@dataclass(frozen=True)
class ClassRule:
    """What the settings say of the classes of one task.

    Attributes:
        names: class names in index order; None where the data decide.
        spellings: class by what the source calls it; without any, the source's names are the classes.
        dropped: what the source calls the classes that are left out.
        shared: whether a class may be missing, because other datasets may have it.
        place: of the settings, for messages.
    """

    names: tuple[str, ...] | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    shared: bool = False
    place: str = "`classes`"

    def rename(self, label: str | None, source: str | Path) -> str | None:
        """The class that a label means; None where it is not known or left out.

        Raises:
            ValueError: classes have spellings, and this is none of them.
        """
        if not label or label in self.dropped:
            return None
        if self.spellings and label not in self.spellings:
            raise UserError(
                f"{source}: the label '{label}' is none of {self.place}{suggest(label, self.spellings)}; add it to a "
                "class there, or to `drop`"
            )
        return self.spellings.get(label, label)


def find_rule(settings: Mapping[str, Any], task: str) -> ClassRule:
    """What the settings of a dataset say of the classes of a task.

    Args:
        settings: of the dataset; those of `tasks` that concern it are in its own `tasks`.
        task: one that it has labels for, given or held back.
    """
    of_task = settings.get("tasks", {}).get(task, {})
    own = settings if task in list_labels(settings) else {}
    chosen, place = (of_task, f"tasks.{task}.classes") if "classes" in of_task else (own, "`classes`")
    classes = chosen.get("classes")
    return ClassRule(
        names=tuple(classes) if classes else None,
        spellings={name: label for label, names in classes.items() for name in (label, *names)}
        if isinstance(classes, Mapping)
        else {},
        dropped=frozenset([*of_task.get("drop", ()), *own.get("drop", ())]),
        shared="classes" in of_task or of_task.get("shared", False),
        place=place,
    )


def rename_labels(samples: Iterable[Sample], settings: Mapping[str, Any], source: str | Path) -> list[Sample]:
    """Call classes as the settings want them, and leave out the samples of dropped ones.

    An audit label of a sample whose label is given, or of a class that is dropped, is not known.

    Raises:
        ValueError: see `ClassRule.rename`.
    """
    rules = {task: find_rule(settings, task) for task in [*list_labels(settings), *list_held_back(settings)]}
    renamed = []
    for sample in samples:
        if any(label in rules[task].dropped for task, label in sample.labels.items()):
            continue
        labels = {task: rules[task].rename(label, source) for task, label in sample.labels.items()}
        audit = {
            task: None if labels.get(task) else rules.get(task, ClassRule()).rename(label, source)
            for task, label in sample.audit.items()
        }
        renamed.append(replace(sample, labels=labels, audit=audit))
    return renamed


def merge_duplicates(samples: Sequence[Sample], how: str) -> list[Sample]:
    """One sample for each path, in the order of the first ones.

    Args:
        samples: with the class names of the settings.
        how: `first`, or `majority` for the most frequent known class of each task, the first of equals.
    """
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(sample.path, []).append(sample)
    if how == "first":
        return [group[0] for group in grouped.values()]

    def vote(found: Sequence[Mapping[str, str | None]]) -> dict[str, str | None]:
        known = {task: [one[task] for one in found if one[task]] for task in found[0]}
        return {task: Counter(names).most_common(1)[0][0] if names else None for task, names in known.items()}

    return [
        replace(group[0], labels=vote([one.labels for one in group]), audit=vote([one.audit for one in group]))
        for group in grouped.values()
    ]


def hold_back(samples: Sequence[Sample], known: Mapping[str, float], seed: int, source: str | Path) -> list[Sample]:
    """Keep the labels of a share of the training samples, drawn class by class; the others become audit labels.

    Args:
        samples: of all splits.
        known: share of the labels to keep, by task.
        seed: of the draw; another task has another one.
        source: to name in messages.

    Raises:
        ValueError: a task has no labels to keep.
    """
    from stages.core.seeds import derive_seed
    from stages.core.splits import draw_stratified

    samples = list(samples)
    for task, share in known.items():
        rows = [row for row, one in enumerate(samples) if one.split == "train" and one.labels.get(task)]
        labels = [samples[row].labels[task] for row in rows]
        if not labels:
            raise UserError(f"{source}: `known`: no training sample has a label for '{task}'; correct or remove it")
        n_kept = min(len(rows), max(len(set(labels)), round(share * len(rows))))
        kept = draw_stratified(labels, n_kept, derive_seed(seed, 0, f"known labels of {task}"))
        samples = [replace(one, audit={task: None, **one.audit}) for one in samples]
        for row, label, stays in zip(rows, labels, kept, strict=True):
            if not stays:
                one = samples[row]
                samples[row] = replace(one, labels=one.labels | {task: None}, audit=one.audit | {task: label})
    return samples


def order_classes(samples: Iterable[Sample], settings: Mapping[str, Any], source: str | Path) -> dict[str, tuple]:
    """Class names in index order by task, and whether they are what they should be.

    Raises:
        ValueError: a task has no training label or only one class, a class occurs outside of train only, classes
            differ in case alone, or they are not those configured.
    """
    samples = list(samples)
    return {task: _order_task(samples, task, find_rule(settings, task), source) for task in list_labels(settings)}


def _order_task(samples: list[Sample], task: str, rule: ClassRule, source: str | Path) -> tuple[str, ...]:
    found = {name: {one.labels[task] for one in samples if one.split == name} - {None} for name in ("train", "other")}
    found["other"] = {one.labels[task] for one in samples if one.split != "train"} - {None}
    everywhere = found["train"] | found["other"]
    if not everywhere:
        raise UserError(f"{source}: no sample has a label for '{task}'; correct it or leave it out of `labels`")
    if not rule.names:
        check_case(everywhere, source)
    if rule.shared:
        classes = rule.names or tuple(sorted(everywhere))
        if unknown := sorted(everywhere - set(classes)):
            raise UserError(f"{source}: {rule.place} lacks {list_names(unknown)}; add or drop them")
        return classes
    if unknown := sorted(found["other"] - found["train"]):
        splits = sorted({one.split for one in samples if one.labels[task] in unknown and one.split != "train"})
        raise UserError(
            f"{source}: classes in {' and '.join(splits)} that train lacks: {list_names(unknown)}; "
            f"add them to train or remove them, or list all classes in tasks.{task}.classes"
        )
    classes = rule.names or tuple(sorted(found["train"]))
    if set(classes) != found["train"] or len(set(classes)) != len(classes):
        raise UserError(f"{source}: {_describe_difference(classes, found['train'])}; correct `classes` or leave it out")
    if len(classes) < 2:
        raise UserError(f"{source}: has only one class, '{classes[0]}'; a task needs two or more")
    return classes


def check_case(names: Iterable[str], source: str | Path) -> None:
    """Refuse classes that differ only in case and blanks: they are hardly meant to be two.

    Raises:
        ValueError: there are some; the message says how to merge them.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault("".join(name.casefold().split()), []).append(name)
    for first, *others in alike.values():
        if others:
            raise UserError(
                f"{source}: {list_names([first, *others])} differ in case or blanks only; if they are one class, merge "
                f"them: classes: {{{others[-1]}: {[first, *others[:-1]]}, …}}"
            )


def _describe_difference(classes: tuple[str, ...], found: set[str]) -> str:
    parts = []
    if missing := sorted(found - set(classes)):
        parts.append(f"`classes` lacks {list_names(missing)}")
    if extra := [name for name in classes if name not in found]:
        parts.append(f"`classes` names {list_names(extra)}, of which there are no images")
    return " and ".join(parts) or "`classes` names a class twice"

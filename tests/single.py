"""Datasets with labels for one task, of which most tests of readers are about."""


def label_of(sample):
    """The class of a sample for its only task."""
    (label,) = sample.labels.values()
    return label


def classes_of(manifest):
    """The classes of a dataset's only task."""
    (classes,) = manifest.classes.values()
    return classes

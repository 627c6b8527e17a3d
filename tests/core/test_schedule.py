import pytest

from stages.core.schedule import augmented_tasks, trained_dataset

TASKS = {"faces": "expression", "heads": "pose", "people": "age"}


def test_datasets_take_turns_from_epoch_one():
    assert [trained_dataset(epoch, list(TASKS)) for epoch in range(1, 6)] == [
        "faces",
        "heads",
        "people",
        "faces",
        "heads",
    ]


def test_every_other_task_is_augmented():
    assert augmented_tasks(1, TASKS) == ["pose", "age"]
    assert augmented_tasks(2, TASKS) == ["expression", "age"]
    assert augmented_tasks(3, TASKS) == ["expression", "pose"]


def test_epoch_zero_is_joint():
    with pytest.raises(ValueError, match="alternating epochs begin at 1"):
        trained_dataset(0, list(TASKS))

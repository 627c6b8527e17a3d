import pytest

from stages.tools.disk import DatasetSize, estimate_disk, format_bytes

OPTIONS = {
    "image_shape": (4, 4, 3),
    "head_features": 10,
    "n_parameters": 100,
    "n_separate_parameters": 180,
    "n_components": 2,
    "n_seeds": 1,
    "methods": [{"schedule": "alternating", "selection": ["confidence", "density", "distribution"]}],
    "keep_features": True,
}
N_CLASSES = {"expression": 3, "pose": 2}


def estimate(n_epochs, **changes):
    kept = {"n_networks": n_epochs, "n_states": n_epochs}
    datasets = [
        DatasetSize(130, 100, (n_epochs + 1) // 2, {"pose": 100}, ["expression"]),
        DatasetSize(65, 50, n_epochs // 2, {"expression": 50}, ["pose"]),
    ]
    return estimate_disk(datasets, N_CLASSES, n_epochs=n_epochs, **{**OPTIONS, **kept, **changes})


def test_the_parts_are_counted_by_hand():
    parts = estimate(1)
    assert parts["images"] == 195 * 48
    # faces is trained: f and soft label for 2 classes of 100 samples and of 50 labeled ones, γ, ids.
    assert parts["features"] == 100 * (40 + 8 + 8) + 50 * (40 + 8 + 8) + 100 * 16
    assert parts["weights and labels"] == 100 * (16 + 80)
    assert parts["checkpoints"] == 2 * 1200 + 400


def test_datasets_take_turns():
    one, two, three = (estimate(n)["features"] for n in (1, 2, 3))
    assert three - two == one
    assert two - one == 50 * (40 + 12 + 8) + 100 * (40 + 12 + 8) + 50 * 16


def test_what_is_deleted_or_not_made_takes_no_room():
    assert estimate(100, keep_features=False)["features"] < estimate(3)["features"]
    assert estimate(2, methods=[{"schedule": "alternating", "selection": 0.0}])["features"] == 100 * 56 + 50 * 60
    assert estimate(2, n_seeds=3)["checkpoints"] == 3 * estimate(2)["checkpoints"]


def test_methods_without_label_vectors_take_only_their_checkpoints():
    mixed = {"schedule": "mixed"}
    without, both = estimate(3, methods=[mixed]), estimate(3, methods=[mixed, *OPTIONS["methods"]])
    assert (without["features"], without["weights and labels"]) == (0, 0)
    assert without["checkpoints"] == estimate(3)["checkpoints"]
    assert without["images"] == estimate(3)["images"]
    assert estimate(3, methods=[mixed], keep_features=False)["features"] == 0
    assert (both["features"], both["weights and labels"]) == (
        estimate(3)["features"],
        estimate(3)["weights and labels"],
    )


def test_label_transfer_labels_all_datasets_in_every_epoch():
    parts = estimate(1, methods=[{"schedule": "mixed", "label_transfer": {"warmup": 1}}])
    assert parts["features"] == 100 * (40 + 8 + 8) + 50 * (40 + 12 + 8)
    assert parts["weights and labels"] == 100 * (16 + 80) + 50 * (24 + 80)


def test_what_is_thinned_out_takes_room_only_while_its_run_goes_on():
    parts = estimate(50, n_networks=2, n_states=2, n_seeds=3)
    # Joint training, two networks, the final one and two states of each seed; 48 networks of one of them.
    assert parts["checkpoints"] == 3 * (1200 + 3 * 400 + 2 * 800) + 48 * 400


def test_separate_networks_are_larger():
    single = {"schedule": "single"}
    assert estimate(2, methods=[single])["checkpoints"] == 3 * 180 * 12 + 180 * 4
    both = estimate(2, methods=[single, {"schedule": "mixed"}])["checkpoints"]
    assert both == 3 * (180 + 100) * 12 + (180 + 100) * 4


@pytest.mark.parametrize(("n_bytes", "text"), [(7, "7 B"), (1234, "1.23 kB"), (5.6e7, "56 MB"), (3e15, "3e+03 TB")])
def test_sizes_are_readable(n_bytes, text):
    assert format_bytes(n_bytes) == text


def test_optimizers_keep_more_or_less():
    plain, averaged, momentum = (estimate(4, n_moments=n)["checkpoints"] for n in (2, 3, 1))
    assert averaged - plain == plain - momentum == 100 * 4 * (1 + 4)


def test_gaps_are_weighed_and_the_whole_dataset_is_run_through_the_network():
    gaps = [DatasetSize(130, 100, 1, {"expression": 30}, ["expression", "pose"])]
    kept = {"n_networks": 1, "n_states": 1}
    parts = estimate_disk(gaps, N_CLASSES, n_epochs=1, **{**OPTIONS, **kept})
    assert parts["features"] == 100 * (40 + 12 + 8) + 30 * 16
    assert parts["weights and labels"] == 100 * 24 + 30 * 80

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from stages.core.augmentation import GEOMETRIC, POLICIES, Augmentation, augment_images
from stages.core.batches import SAMPLINGS, EpochBatches, TrainingSet, take_turns
from stages.core.losses import RegularizationTerm
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.optimizers import Adam
from stages.core.regularization import Regularization
from stages.core.targets import Targets, one_hot
from stages.core.training import (
    DivergedError,
    choose_device,
    name_prediction_precision,
    name_training_precision,
    normalise_features,
    predict_batches,
    prepare_torch,
    train_pass,
)

CPU = torch.device("cpu")
CLASSES = {"expression": ["happy", "sad", "angry"], "pose": ["left", "right"]}


def build_network(seed=0):
    torch.manual_seed(seed)
    return MultiTaskNetwork(NetworkSpecification("vgg_tiny", (8, 8, 1), 6, CLASSES, 0.9, [0.5], [0.5]))


def draw_set(n_samples=20, tasks=("expression", "pose"), seed=0, start=0):
    rng = np.random.default_rng(seed)
    targets = {task: rng.dirichlet(np.ones(len(CLASSES[task])), n_samples).astype(np.float32) for task in tasks}
    images = rng.integers(0, 256, (n_samples, 8, 8, 1), dtype=np.uint8)
    return make_set(images, targets, tasks[0], start)


def make_set(images, targets, own, start=0):
    """All label vectors count; those of one task are given."""
    found = {task: Targets.for_all(vectors, given=task == own) for task, vectors in targets.items()}
    return TrainingSet(images, np.arange(start, start + len(images)), found)


def make_batches(sets, batch_size=8, augmentation=None, seed=1, **options):
    return EpochBatches(
        sets,
        batch_size=batch_size,
        augmentation=augmentation or Augmentation(),
        order_seed=seed,
        augmentation_seed=seed,
        **options,
    )


def test_every_sample_comes_once_with_its_own_image_and_labels():
    training_set = draw_set()
    batches = make_batches([training_set])
    seen = [batches[number] for number in range(len(batches))]
    ids = np.concatenate([batch.sample_ids for batch in seen])
    assert sorted(ids) == list(range(20))
    assert ids.tolist() != list(range(20))
    for batch in seen:
        np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), training_set.images[batch.sample_ids])
        for task, labels in batch.targets.items():
            np.testing.assert_array_equal(labels, training_set.targets[task].vectors[batch.sample_ids])


def test_the_order_follows_the_seed_and_nothing_else():
    def ids(seed, **options):
        batches = make_batches([draw_set()], seed=seed, **options)
        return np.concatenate([batch.sample_ids for batch in batches.load(0, pin_memory=False)]).tolist()

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
    assert ids(1, batch_size=3) == ids(1, batch_size=20)


def test_loader_processes_change_nothing():
    batches = make_batches([draw_set(40)], augmentation=Augmentation(horizontal_flip=True, policy="rand_augment"))
    alone, helped = list(batches.load(0, pin_memory=False)), list(batches.load(2, pin_memory=False))
    assert len(alone) == len(helped) == 5
    for first, second in zip(alone, helped, strict=True):
        torch.testing.assert_close(first.images, second.images, rtol=0, atol=0)
        np.testing.assert_array_equal(first.sample_ids, second.sample_ids)


def test_mixed_batches_train_each_sample_on_its_own_task():
    faces, heads = draw_set(12, ("expression",)), draw_set(20, ("pose",), seed=1, start=100)
    batches = make_batches([faces, heads])
    assert batches.n_samples == 32
    n_seen = {"expression": 0, "pose": 0}
    for batch in batches.load(0, pin_memory=False):
        for task, members in batch.members.items():
            n_seen[task] += len(members)
            ids = batch.sample_ids[members.numpy()]
            assert ((ids >= 100) == (task == "pose")).all()
            source = faces if task == "expression" else heads
            np.testing.assert_array_equal(batch.targets[task], source.targets[task].vectors[ids % 100])
    assert n_seen == {"expression": 12, "pose": 20}


def mix_sets(**how):
    """Half of the samples of the first dataset and none of the second have a given pose."""
    sets = [draw_set(20, ("pose",)), draw_set(12, ("pose",), seed=1, start=100)]
    given = [np.arange(20) % 2 == 0, np.full(12, False)]
    return [
        replace(part, targets={"pose": replace(part.targets["pose"], given=own, **how)})
        for part, own in zip(sets, given, strict=True)
    ]


def test_a_plain_batch_knows_no_shares():
    for batch in make_batches(mix_sets()).load(0, pin_memory=False):
        assert batch.shares == batch.temperatures == {}


@pytest.mark.parametrize("strength", [0.25, 1, 3])
def test_made_labels_count_as_much_as_their_strength_says(strength):
    batches = list(make_batches(mix_sets(strength=strength, temperature=2), 4).load(0, pin_memory=False))
    n_given = [int(batch.given["pose"].sum()) for batch in batches]
    assert 0 in n_given
    assert max(n_given) > 1
    for batch, n in zip(batches, n_given, strict=True):
        given, shares = batch.given["pose"].numpy(), batch.shares["pose"].numpy()
        n_made = len(shares) - n
        np.testing.assert_allclose(shares[given], 1 / (n + strength * n_made), rtol=1e-6)
        made = strength / (n + strength * n_made) if n else strength / n_made
        np.testing.assert_allclose(shares[~given], 4 * made, rtol=1e-6)
        np.testing.assert_array_equal(batch.temperatures["pose"], np.where(given, 1, 2))


@pytest.mark.parametrize("strength", [0.25, 1, 3])
def test_apart_from_each_other_made_labels_leave_the_mean_of_the_given_ones_as_it_is(strength):
    sets = mix_sets(strength=strength, temperature=2, normalization="separate")
    batches = list(make_batches(sets, 4).load(0, pin_memory=False))
    kinds = set()
    for batch in batches:
        given, shares = batch.given["pose"].numpy(), batch.shares["pose"].numpy()
        kinds.add((bool(given.any()), bool((~given).any())))
        np.testing.assert_allclose(shares[given], 1 / max(1, given.sum()), rtol=1e-6)
        np.testing.assert_allclose(shares[~given], 4 * strength / max(1, (~given).sum()), rtol=1e-6)
    assert {(True, True), (False, True)} <= kinds


@pytest.mark.parametrize("n_workers", [0, 2])
def test_shares_are_those_of_the_batch_whoever_loads_it(n_workers):
    sets = mix_sets(strength=0.5)
    batches = list(make_batches(sets).load(n_workers, pin_memory=False))
    assert all(batch.temperatures == {} for batch in batches), "scores are not divided by 1"
    vectors = np.concatenate([part.targets["pose"].vectors for part in sets])
    for batch in batches:
        rows = np.where(batch.sample_ids < 100, batch.sample_ids, batch.sample_ids - 80)[batch.members["pose"]]
        np.testing.assert_array_equal(batch.targets["pose"], vectors[rows])
        own = (rows < 20) & (rows % 2 == 0)
        np.testing.assert_array_equal(batch.given["pose"], own)
        strengths = np.where(own, 1, 0.5)
        np.testing.assert_allclose(
            batch.shares["pose"], strengths / (strengths.sum() if own.any() else len(own)), rtol=1e-6
        )


def test_a_student_as_soft_as_its_own_labels_has_nothing_to_learn():
    """Its scores at temperature 2 are the labels; at 1 it would have to become less sure."""
    training_set, network = draw_set(8, ("pose",)), build_network()
    _, _, soft = next(predict_batches(network, training_set.images, batch_size=8, device=CPU))
    powers = np.sqrt(soft["pose"].astype(np.float64))
    vectors = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    gradients = {}
    for temperature in (1, 2):
        none, every = np.full(8, False), np.full(8, True)
        targets = {"pose": Targets(vectors, every, none, temperature=temperature)}
        network = build_network()
        losses = train_pass(
            network,
            Adam(network, 1e-9),
            make_batches([replace(training_set, targets=targets)]).load(0, pin_memory=False),
            CPU,
        )
        gradients[temperature] = network.classifiers["task_pose"].weight.grad.abs().max().item()
        assert losses.tasks["pose"].divergence >= 0
    assert gradients[2] < 1e-6
    assert gradients[1] > 1e-4


def count_draws(batches):
    """How often each sample was drawn, and how many samples below and from 100 each batch has."""
    seen = [batch.sample_ids for batch in batches.load(0, pin_memory=False)]
    ids, counts = np.unique(np.concatenate(seen), return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True)), [(ids < 100).sum() for ids in seen]


def test_balanced_batches_hold_equally_many_samples_of_each_task():
    few, many = draw_set(6, ("expression",)), draw_set(40, ("pose",), seed=1, start=100)
    batches = make_batches([few, many], sampling="balanced")
    assert batches.n_samples == 46, "a pass is as long as ever"
    draws, n_few = count_draws(batches)
    assert n_few == [4, 4, 4, 4, 4, 3]
    # Cycled evenly: 23 draws from six samples, 23 of the forty others once.
    assert sorted(draws[number] for number in range(6)) == [3, 4, 4, 4, 4, 4]
    assert [draws[number] for number in draws if number >= 100] == [1] * 23
    assert draws == count_draws(make_batches([few, many], sampling="balanced"))[0]
    assert draws != count_draws(make_batches([few, many], sampling="balanced", seed=2))[0]


def test_square_root_batches_lie_between_proportional_and_balanced():
    """Four and sixteen labels: shares of 2 to 4."""
    few, many = draw_set(4, ("expression",)), draw_set(16, ("pose",), seed=1, start=100)
    draws, n_few = count_draws(make_batches([few, many], 6, sampling="square_root"))
    assert n_few == [2, 2, 2, 1]
    assert sum(n_few) == 7
    assert sorted(draws[number] for number in range(4)) == [1, 2, 2, 2]
    assert [draws[number] for number in draws if number >= 100] == [1] * 13


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=5).map(np.array),
    st.integers(0, 200),
)
def test_turns_are_spread_as_evenly_as_their_weights_allow(weights, length):
    turns = take_turns(weights, length)
    assert turns.shape == (length,)
    for place in {length // 3, length}:
        counts = np.bincount(turns[:place], minlength=len(weights))
        assert counts.sum() == place
        # Whoever is half a turn early keeps all others from theirs.
        assert np.all(np.abs(counts - place * weights / weights.sum()) <= 0.51 + len(weights) / 2)
    if np.all(weights == weights[0]):
        assert turns.tolist() == (np.arange(length) % len(weights)).tolist()


def test_balanced_batches_go_by_given_labels_of_whatever_dataset():
    """One set with gaps: six of forty samples have an expression, four have no label of their own."""
    part = draw_set(40)
    given = {"expression": np.arange(40) < 6, "pose": np.arange(40) < 36}
    known = np.full(40, True)
    targets = {task: Targets(part.targets[task].vectors, known, given[task]) for task in given}
    draws, _ = count_draws(make_batches([replace(part, targets=targets)], sampling="balanced"))
    drawn = np.array([draws.get(number, 0) for number in range(40)])
    # 14 turns for expressions, 13 for poses and 13 for samples without a label.
    assert drawn.sum() == 40
    assert drawn[36:].sum() == 13
    assert drawn[:6].sum() >= 14
    assert drawn[6:36].max() == 1


def test_the_shares_of_a_balanced_pass_are_the_pass():
    sets = [draw_set(6, ("expression",)), draw_set(40, ("pose",), seed=1, start=100)]
    whole = count_draws(make_batches(sets, sampling="balanced"))[0]
    shares = [count_draws(make_batches(sets, sampling="balanced", share=(number, 3)))[0] for number in range(3)]
    assert {key: sum(share.get(key, 0) for share in shares) for key in whole} == whole


@pytest.mark.parametrize(("length", "counts"), [(7, {0, 1}), (20, {1}), (50, {2, 3})])
def test_a_pass_may_be_longer_or_shorter_than_its_dataset(length, counts):
    draws, _ = count_draws(make_batches([draw_set(20)], length=length))
    assert sum(draws.values()) == length
    assert {draws.get(number, 0) for number in range(20)} == counts


def test_where_there_is_one_task_balanced_is_proportional():
    def order(sampling):
        batches = make_batches([draw_set(12, ("pose",))], sampling=sampling)
        return np.concatenate([batch.sample_ids for batch in batches.load(0, pin_memory=False)]).tolist()

    assert order("balanced") == order("proportional")


def test_nothing_to_train_on_is_an_empty_pass():
    part = draw_set(4)
    none = {task: replace(target, known=np.full(4, False)) for task, target in part.targets.items()}
    for sampling in SAMPLINGS:
        assert list(make_batches([replace(part, targets=none)], sampling=sampling, length=8)) == []


def cross_entropy(scores, targets):
    scores = scores.double()
    return -(targets * (scores - scores.logsumexp(1, keepdim=True))).sum(1).mean()


def test_one_step_is_adam_on_the_sum_of_the_mean_cross_entropies():
    training_set = draw_set(10)
    network, reference = build_network(), build_network()
    losses = train_pass(
        network,
        Adam(network, 1e-2),
        make_batches([training_set], 10).load(0, pin_memory=False),
        CPU,
    )
    images = torch.from_numpy(training_set.images).permute(0, 3, 1, 2)
    scores = reference(images)
    parts = {
        task: cross_entropy(scores[task], torch.from_numpy(target.vectors))
        for task, target in training_set.targets.items()
    }
    sum(parts.values()).backward()
    with torch.no_grad():
        for parameter in reference.parameters():
            # Adam's first step: m̂ = g and v̂ = g².
            parameter -= 1e-2 * parameter.grad / (parameter.grad.abs() + 1e-8)
    for (name, trained), expected in zip(network.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-3, atol=2e-5, msg=name)
    for task, part in parts.items():
        assert losses.tasks[task].cross_entropy == pytest.approx(part.item(), rel=1e-5)
        labels = training_set.targets[task].vectors.astype(np.float64)
        assert losses.tasks[task].label_entropy == pytest.approx(-(labels * np.log(labels)).sum(1).mean(), rel=1e-6)


def test_the_least_cross_entropy_of_weighted_vectors_is_known():
    """Where the network says just what the vectors say, nothing is left to learn."""
    part = draw_set(8, ("pose",))
    network = build_network()
    with torch.no_grad():
        scores = network(torch.from_numpy(part.images).permute(0, 3, 1, 2))["pose"]
    weights = np.linspace(0.5, 3, 8, dtype=np.float32)[:, None]
    vectors = torch.softmax(scores, 1).numpy() * weights
    sets = [make_set(part.images, {"pose": vectors}, "pose")]
    loss = train_pass(network, Adam(network, 1e-2), make_batches(sets), CPU).tasks["pose"]
    assert loss.divergence == pytest.approx(0, abs=1e-6)
    assert loss.label_entropy > 0.1


def test_every_step_has_its_own_learning_rate():
    def train(rates):
        network = build_network()
        before = network.cross_stitch.detach().clone()
        optimizer = Adam(network, 1e-2)
        train_pass(network, optimizer, make_batches([draw_set()], 10), CPU, rates=rates)
        return network.cross_stitch - before, optimizer.learning_rate

    plain, rate = train(None)
    assert rate == 1e-2
    assert torch.equal(train([1e-2, 1e-2])[0], plain)
    # Adam's first step is as long as the rate; the second one takes none.
    moved, rate = train([1e-3, 0.0])
    assert rate == 0
    torch.testing.assert_close(moved.abs(), torch.full((2, 2), 1e-3), rtol=1e-2, atol=0)


def test_changing_the_label_vectors_of_one_task_changes_the_update():
    def train(training_set):
        network = build_network()
        train_pass(network, Adam(network, 1e-2), make_batches([training_set]), CPU)
        return torch.cat([parameter.detach().flatten() for parameter in network.backbone.parameters()])

    training_set = draw_set()
    turned = Targets.for_all(training_set.targets["pose"].vectors[:, ::-1].copy(), given=False)
    same = train(replace(training_set, targets=dict(training_set.targets)))
    other = train(replace(training_set, targets={**training_set.targets, "pose": turned}))
    assert torch.equal(train(training_set), same)
    assert (same - other).abs().max() > 1e-3


def test_training_learns_a_planted_rule():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    images = np.full((256, 8, 8, 1), 60, dtype=np.uint8) + (labels * 100).astype(np.uint8)[:, None, None, None]
    training_set = make_set(images, {"pose": one_hot(labels, 2)}, "pose")
    network = build_network()
    optimizer = Adam(network, 1e-2)
    for seed in range(3):
        train_pass(network, optimizer, make_batches([training_set], 32, seed=seed), CPU)
    (_, _, probabilities), *_ = predict_batches(network, images, batch_size=256, device=CPU)
    assert (probabilities["pose"].argmax(1) == labels).mean() > 0.98


def test_a_diverging_loss_names_its_samples():
    training_set = draw_set(16)
    network = build_network()
    batches = make_batches([training_set])
    bad = batches[1].sample_ids
    training_set.targets["pose"].vectors[bad[0]] = np.nan
    with pytest.raises(DivergedError, match="the loss of batch 1 is nan") as error:
        train_pass(network, Adam(network, 1e-2), batches, CPU)
    assert ", ".join(map(str, bad)) in str(error.value)


def test_prediction_reads_batches_and_does_not_depend_on_them():
    images = draw_set(30).images
    network = build_network()

    def predict(batch_size):
        parts = list(predict_batches(network, images, batch_size=batch_size, device=CPU))
        assert parts[0][0] == slice(0, min(batch_size, 30))
        return np.concatenate([part[1]["pose"] for part in parts]), np.concatenate([part[2]["pose"] for part in parts])

    for few, many in zip(predict(7), predict(30), strict=True):
        np.testing.assert_allclose(few, many, atol=1e-5)
    np.testing.assert_allclose(predict(30)[1].sum(1), 1, atol=1e-6)


def test_float32_is_no_tf32():
    torch.backends.cudnn.allow_tf32 = True
    prepare_torch(1, seed=0)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert [name(torch.device("cuda")) for name in (name_prediction_precision, name_training_precision)] == [
        "float32 without TF32",
        "bfloat16 autocast, else float32 without TF32",
    ]


def test_images_are_read_ahead_by_one_batch():
    """And no further, so that memory stays what it is."""

    class Images:
        read = []  # noqa: RUF012

        def __len__(self):
            return 5

        def __getitem__(self, rows):
            self.read.append(rows.start)
            return np.zeros((1, 8, 8, 1), dtype=np.uint8)

    batches = predict_batches(build_network(), Images(), batch_size=1, device=CPU)
    assert [(next(batches)[0].start, len(Images.read) <= number + 2) for number in range(3)] == [
        (0, True),
        (1, True),
        (2, True),
    ]
    assert [rows.start for rows, *_ in batches] == [3, 4]
    assert Images.read == [0, 1, 2, 3, 4]


def test_features_are_scaled_to_unit_length_or_left_alone():
    features = np.array([[3, 4], [0, 0], [1e-20, 0]], dtype=np.float32)
    np.testing.assert_allclose(normalise_features(features, "l2"), [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    assert normalise_features(features, "none") is features


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(ValueError, match=r"is to be 'cuda', but torch finds none; choose auto or cpu"):
        choose_device("cuda")


def test_drawn_changes_are_applied_to_each_image_alone():
    images = torch.arange(2 * 1 * 4 * 4, dtype=torch.uint8).reshape(2, 1, 4, 4)
    changes = np.array([[1, 0, 0, 1, 1], [0, 0, 0, 1, 1]], dtype=float)
    flipped = augment_images(images, changes, Augmentation(horizontal_flip=True))
    torch.testing.assert_close(flipped[0], images[0].flip(-1))
    torch.testing.assert_close(flipped[1], images[1])
    changes = np.array([[0, 1, -2, 1, 1], [0, 0, 0, 1, 1]], dtype=float)
    shifted = augment_images(images, changes, Augmentation(shift=2))
    torch.testing.assert_close(shifted[0, :, 1:, :2], images[0, :, :-1, 2:])
    torch.testing.assert_close(shifted[1], images[1])
    changes = np.array([[0, 0, 0, 2, 1], [0, 0, 0, 1, 1]], dtype=float)
    brighter = augment_images(images, changes, Augmentation(brightness=0.5))
    torch.testing.assert_close(brighter[0], images[0] * 2)
    torch.testing.assert_close(brighter[1], images[1])


def test_changes_are_drawn_within_their_limits():
    changes = Augmentation(True, 3, 0.2, 0.1).draw(5000, seed=1)
    assert set(changes[:, 0]) == {0, 1}
    assert abs(changes[:, 0].mean() - 0.5) < 0.05
    assert set(changes[:, 1]) == set(changes[:, 2]) == set(range(-3, 4))
    assert 0.8 <= changes[:, 3].min() < 0.81
    assert 1.09 < changes[:, 4].max() <= 1.1
    nothing = Augmentation()
    assert not nothing.active
    assert (nothing.draw(10, seed=1)[:, :5] == [0, 0, 0, 1, 1]).all()
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert augment_images(images, changes[:1], nothing) is images


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(crop=0.3),
        Augmentation(rotation=30),
        Augmentation(policy="rand_augment"),
        Augmentation(policy="trivial_augment", geometric=True),
        Augmentation(erasing=1.0),
    ],
)
def test_transforms_follow_the_seed_of_each_sample_and_leave_torchs_own_alone(augmentation):
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changes = augmentation.draw(12, seed=1)
    before = torch.get_rng_state()
    changed = augment_images(images, changes, augmentation)
    assert torch.equal(torch.get_rng_state(), before)
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    torch.manual_seed(7)
    parts = [augment_images(images[rows], changes[rows], augmentation) for rows in (slice(0, 5), slice(5, 12))]
    assert torch.equal(torch.cat(parts), changed)
    assert not torch.equal(augment_images(images, augmentation.draw(12, seed=2), augmentation), changed)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_leave_everything_in_its_place_unless_they_may_move_it(policy):
    """Half the image is dark; changes of colours and sharpness keep the border where it is."""
    images = torch.full((200, 3, 16, 16), 60, dtype=torch.uint8)
    images[..., 8:] = 180

    def rows_that_differ(geometric):
        augmentation = Augmentation(policy=policy, geometric=geometric)
        changed = augment_images(images, augmentation.draw(200, seed=1), augmentation)
        # Sharpness leaves the outermost rows as they are.
        changed = changed[:, :, 2:-2]
        return (changed != changed[:, :, :1]).any().item(), (changed[..., 0:6] != changed[..., :1]).any().item()

    assert rows_that_differ(geometric=False) == (False, False)
    assert any(rows_that_differ(geometric=True))


def test_the_operations_that_move_something_are_known():
    for name in POLICIES.values():
        known = {"Identity", "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize"}
        known |= {"AutoContrast", "Equalize", *GEOMETRIC}
        assert set(getattr(v2, name)._AUGMENTATION_SPACE) == known


def test_made_labels_see_the_strong_view_and_given_ones_the_weak_one():
    part = draw_set(10)
    known = np.arange(10) < 8
    targets = {
        # Given for the first five, made for three, none for the last two.
        "expression": Targets(part.targets["expression"].vectors, known, np.arange(10) < 5),
        "pose": Targets.for_all(part.targets["pose"].vectors, given=False),
    }
    part = replace(part, targets=targets)
    strong = Augmentation(brightness=0.5)
    plain = make_batches([part], 10)[0]
    batch = make_batches([part], 10, strong=strong, strong_seed=3)[0]
    # Five weak views and ten strong ones.
    assert len(batch.images) == len(batch.sample_ids) == 15
    assert sorted(batch.sample_ids[:5]) == list(range(5))
    for task, rows in batch.members.items():
        ids = batch.sample_ids[rows]
        np.testing.assert_array_equal(ids, plain.sample_ids[plain.members.get(task, torch.arange(10))])
        np.testing.assert_array_equal((rows < 5).numpy(), batch.given[task])
        assert torch.equal(batch.targets[task], plain.targets[task])
    originals = torch.from_numpy(part.images).permute(0, 3, 1, 2)[batch.sample_ids]
    assert torch.equal(batch.images[:5], originals[:5])
    differ = (batch.images[5:] != originals[5:]).flatten(1).any(1)
    assert differ.all()


def test_where_all_labels_are_given_nothing_is_shown_twice():
    part = draw_set(6, ("pose",))
    plain, strong = make_batches([part], 6)[0], make_batches([part], 6, strong=Augmentation(brightness=0.5))[0]
    assert torch.equal(plain.images, strong.images)
    np.testing.assert_array_equal(plain.sample_ids, strong.sample_ids)
    network = build_network()
    losses = [train_pass(network, Adam(network, 0.0), [batch], CPU).tasks["pose"] for batch in (plain, strong)]
    assert losses[0].cross_entropy == pytest.approx(losses[1].cross_entropy, rel=1e-6)


def test_the_shares_of_a_pass_are_the_pass():
    faces, heads = draw_set(21, ("expression",)), draw_set(32, ("pose",), seed=1, start=100)
    augmentation = Augmentation(horizontal_flip=True)

    def gather(*shares):
        batches = [
            batch
            for share in shares
            for batch in EpochBatches(
                [faces, heads], batch_size=8, augmentation=augmentation, order_seed=1, augmentation_seed=2, share=share
            )
        ]
        images = torch.cat([batch.images for batch in batches])
        return np.concatenate([batch.sample_ids for batch in batches]).tolist(), images

    ids, images = gather((0, 1))
    shared_ids, shared_images = gather((0, 3), (1, 3), (2, 3))
    assert sorted(ids) == [*range(21), *range(100, 132)]
    assert shared_ids == ids
    torch.testing.assert_close(shared_images, images, rtol=0, atol=0)


def test_a_regularised_network_that_diverges_is_named_by_its_loss():
    training_set = draw_set(40)
    network = build_network()
    batches = make_batches([training_set]).load(0, pin_memory=False)
    terms = [RegularizationTerm(Regularization(joint_nuclear=0.1, laplacian=0.1))]
    with pytest.raises(DivergedError):
        train_pass(network, Adam(network, 1e30), batches, CPU, terms)


def test_batch_normalisation_takes_a_last_batch_of_one_sample():
    """At 32 x 32 pixels resnet18 ends in one pixel: one sample has no variance there."""
    torch.manual_seed(0)
    network = MultiTaskNetwork(
        NetworkSpecification("resnet18", (32, 32, 3), 8, {"a": ["x", "y"]}, 1.0, [0.5] * 3, [0.5] * 3)
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    one = make_set(images, {"a": one_hot(np.array([0, 1, 0, 1, 0]), 2)}, "a")
    batches = make_batches([one], batch_size=4)
    assert [len(batch.images) for batch in batches] == [4, 1]
    tracked = network.backbone.bn1.num_batches_tracked
    losses = train_pass(network, Adam(network, 0.001), batches, torch.device("cpu"))
    assert losses.tasks["a"].n_samples == 5
    # Only the batch of four was learned from.
    assert tracked == 1

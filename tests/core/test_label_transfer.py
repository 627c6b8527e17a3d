import numpy as np
import torch

from stages.core.augmentation import Augmentation
from stages.core.batches import EpochBatches, TrainingSet
from stages.core.losses import LabelTransferTerm
from stages.core.network import MultiTaskNetwork, NetworkSpecification, add_label_transfer
from stages.core.optimizers import Adam
from stages.core.targets import Targets, one_hot
from stages.core.training import predict_batches, train_pass

CPU = torch.device("cpu")
CLASSES = {"expression": ["happy", "sad", "angry"], "pose": ["left", "right"]}
POSE_OF = np.array([1, 0, 1])
"""The planted relation: sad faces look left, all others right."""


def build_network(seed=0):
    torch.manual_seed(seed)
    network = MultiTaskNetwork(NetworkSpecification("vgg_tiny", (8, 8, 1), 12, CLASSES, 0.9, [0.5], [0.5]))
    return add_label_transfer(network)


def draw_faces(n_samples, seed):
    """Images whose brightness is their expression."""
    rng = np.random.default_rng(seed)
    expressions = rng.integers(0, 3, n_samples)
    images = rng.integers(0, 40, (n_samples, 8, 8, 1)) + expressions[:, None, None, None] * 100
    return images.astype(np.uint8), expressions


def test_a_label_transfer_network_learns_a_planted_relation_between_two_tasks():
    images, expressions = draw_faces(300, seed=0)
    faces = TrainingSet(
        images[:150], np.arange(150), {"expression": Targets.for_all(one_hot(expressions[:150], 3), given=True)}
    )
    heads = TrainingSet(
        images[150:], np.arange(150), {"pose": Targets.for_all(one_hot(POSE_OF[expressions[150:]], 2), given=True)}
    )
    network = build_network()
    optimizer = Adam(network, 3e-3)
    for seed in range(12):
        batches = EpochBatches(
            [faces, heads], batch_size=16, augmentation=Augmentation(), order_seed=seed, augmentation_seed=seed
        )
        losses = train_pass(network, optimizer, batches, CPU, [LabelTransferTerm()])
    assert losses.terms["label_transfer"]["pose"] < 0.1
    unseen, truth = draw_faces(100, seed=1)
    (_, _, transferred), *_ = predict_batches(network, unseen, batch_size=100, device=CPU, transferred=True)
    assert (transferred["pose"].argmax(1) == POSE_OF[truth]).mean() > 0.97


def test_the_relation_is_read_from_the_other_task_and_not_from_the_image_alone():
    network = build_network().eval()
    features, scores = network.extract(torch.rand(6, 1, 8, 8) * 255)
    swapped = {**scores, "expression": scores["expression"].flip(1) * 3}
    before, after = (network.transfer_labels(features, one) for one in (scores, swapped))
    assert not torch.allclose(before["pose"], after["pose"])
    torch.testing.assert_close(before["expression"], after["expression"])


def test_label_transfer_networks_read_the_network_without_training_it():
    network = build_network()
    features, scores = network.extract(torch.rand(6, 1, 8, 8) * 255)
    sum(values.square().sum() for values in network.transfer_labels(features, scores).values()).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == name.startswith("transfers."), name


def test_summaries_are_mean_embeddings_whose_products_with_the_feature_are_the_scores():
    network = build_network()
    features, scores = network.extract(torch.rand(4, 1, 8, 8) * 255)
    classifier = network.classifiers["task_pose"]
    embeddings = torch.cat([classifier.weight, classifier.bias[:, None]], 1)
    torch.testing.assert_close(torch.cat([features["pose"], torch.ones(4, 1)], 1) @ embeddings.T, scores["pose"])

"""The pipeline, epoch by epoch, against Algorithm 1 written down once more without it."""

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.optimize import linprog
from sklearn.mixture import GaussianMixture
from torch.nn import functional

from stages.core.seeds import derive_seed
from stages.storage.contracts import LABELS, WEIGHTS
from stages.storage.tables import read_table

TASKS = ["expression", "pose"]
N_CLASSES = {"expression": 3, "pose": 2}
KAPPA, DECAY, TEMPERATURE, LEARNING_RATE, BATCH = 0.6, 0.1, 2.0, 0.003, 8


def forward(weights, images):
    """f and scores by task, from the bare tensors of a checkpoint."""
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    for layer in (0, 2, 5, 7, 10, 12):
        x = functional.relu(
            functional.conv2d(x, weights[f"backbone.{layer}.weight"], weights[f"backbone.{layer}.bias"], padding=1)
        )
        if layer in (2, 7, 12):
            x = functional.max_pool2d(x, 2)
    x = x.flatten(1)
    own = [x @ weights[f"heads.task_{task}.weight"].T + weights[f"heads.task_{task}.bias"] for task in TASKS]
    features, scores = {}, {}
    for k, task in enumerate(TASKS):
        features[task] = functional.relu(sum(weights["cross_stitch"][k, j] * own[j] for j in range(2)))
        scores[task] = (
            features[task] @ weights[f"classifiers.task_{task}.weight"].T + weights[f"classifiers.task_{task}.bias"]
        )
    return features, scores


def unit(features):
    features = features.detach().numpy().astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)


def density_weights(features, pseudo):
    result = np.empty(len(pseudo))
    for group in np.unique(pseudo):
        members = np.flatnonzero(pseudo == group)
        squared = ((features[members][:, None] - features[members][None]) ** 2).sum(-1)
        cutoff = np.sort(squared.ravel())[int(np.ceil(KAPPA * len(members) ** 2)) - 1]
        rho = (squared < cutoff).sum(1)
        result[members] = rho / rho.max() if rho.max() else 1.0
    return result


def distribution_distances(unlabeled, labeled, task, epoch):
    mixtures = {}
    for domain, features in (("unlabeled", unlabeled), ("labeled", labeled)):
        centre = features.astype(np.float32).mean(0, dtype=np.float64)
        seed = derive_seed(0, epoch, f"mixture of {domain} for {task}") % 2**32
        model = GaussianMixture(2, covariance_type="diag", random_state=seed, reg_covar=1e-6, tol=1e-3)
        gamma = model.fit(features - centre).predict_proba(features - centre)
        mixtures[domain] = (model.means_ + centre, model.weights_, gamma)
    means, _, gamma = mixtures["unlabeled"]
    labeled_means, priors, _ = mixtures["labeled"]
    ground = ((means[:, None] - labeled_means[None]) ** 2).sum(-1)
    emd = [
        linprog(row, A_eq=np.vstack([np.ones(2), np.eye(2)]), b_eq=np.r_[1, priors / priors.sum()]).fun
        for row in ground
    ]
    return gamma @ np.array(emd)


def make_labels(weights, unlabeled_images, labeled_images, task, epoch):
    """Lines 3 to 7 of Algorithm 1: weights w and label vectors ŷ."""
    features, scores = forward(weights, unlabeled_images)
    labeled_features, _ = forward(weights, labeled_images)
    soft = torch.softmax(scores[task].double(), 1).detach().numpy()
    pseudo = soft.argmax(1)
    w_s = soft.max(1) * density_weights(unit(features[task]), pseudo)
    distances = distribution_distances(unit(features[task]), unit(labeled_features[task]), task, epoch)
    w = w_s * np.exp(-DECAY * distances)
    w = w / w.max()
    tempered = soft ** (1 / TEMPERATURE)
    tempered /= tempered.sum(1, keepdims=True)
    return w, w[:, None] * np.eye(N_CLASSES[task])[pseudo] + (1 - w[:, None]) * tempered


def adam(weights, moments, images, targets, epoch):
    """Line 8: one pass with the loss of equation 9, Adam written out."""
    order = np.random.default_rng(derive_seed(0, epoch, "order")).permutation(len(images))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        _, scores = forward(leaves, images[rows])
        loss = 0
        for task in TASKS:
            labels = torch.from_numpy(targets[task][rows].astype(np.float32))
            loss = loss - (labels * functional.log_softmax(scores[task], 1)).sum(1).mean()
        loss.backward()
        for name, leaf in leaves.items():
            first, second, step = moments[name]
            step, first = step + 1, 0.9 * first + 0.1 * leaf.grad
            second = 0.999 * second + 0.001 * leaf.grad**2
            moments[name] = (first, second, step)
            root = (second / (1 - 0.999**step)).sqrt() + 1e-8
            weights[name] = weights[name] - LEARNING_RATE * (first / (1 - 0.9**step)) / root


def test_three_epochs_equal_a_straight_line_version_of_algorithm_1(run):
    initial = run.checkpoint("initial")
    weights, state = load_file(initial["network"]), load_file(initial["optimizer"])
    moments = {
        name: (state[f"exp_avg.{name}"], state[f"exp_avg_sq.{name}"], int(state[f"step.{name}"])) for name in weights
    }
    own = {"faces": "expression", "heads": "pose"}
    previous = "initial"
    for epoch, (trained, labeled) in enumerate([("faces", "heads"), ("heads", "faces"), ("faces", "heads")], start=1):
        name, task = f"algorithm/epoch-{epoch:03d}", own[labeled]
        features = run.extract(previous, name, trained=trained)
        files = run.weigh(name, features, trained=trained, task=task, labeled=labeled, number=epoch)
        run.train(name, previous, trained=trained, labels={task: files["labels"]}, epoch=epoch)
        previous = name

        unlabeled, other = getattr(run, trained), getattr(run, labeled)
        w, labels = make_labels(weights, unlabeled.pixels, other.pixels, task, epoch)
        stored = read_table(files["weights"], WEIGHTS)
        np.testing.assert_allclose(stored["selection_weight"], w, atol=1e-6, err_msg=f"w of epoch {epoch}")
        assert stored["selection_weight"].max() == 1.0
        training_label = read_table(files["labels"], LABELS)["training_label"]
        np.testing.assert_allclose(training_label, labels, atol=1e-6, err_msg=f"labels of epoch {epoch}")

        targets = {own[trained]: np.eye(N_CLASSES[own[trained]])[unlabeled.labels], task: labels}
        adam(weights, moments, unlabeled.pixels, targets, epoch)
        trained_weights = load_file(run.checkpoint(name)["network"])
        for key, value in weights.items():
            torch.testing.assert_close(trained_weights[key], value, atol=1e-5, rtol=0, msg=f"{key} of epoch {epoch}")
        change = max((trained_weights[key] - load_file(initial["network"])[key]).abs().max() for key in weights)
        assert change > 5e-3, "nothing was trained, so that nothing was compared"

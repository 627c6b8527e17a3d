"""The pipeline, epoch by epoch, against Algorithm 1 written down once more without it."""

import json

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.optimize import linprog
from sklearn.mixture import GaussianMixture
from torch.nn import functional

from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.seeds import derive_seed
from stages.core.training import prepare_torch
from stages.epoch import extract_features
from stages.storage.contracts import LABELS, WEIGHTS
from stages.storage.tables import read_table
from tests.conftest import Run, weigh, write_manifest

N_CLASSES = {"expression": 3, "pose": 2}
KAPPA, DECAY, TEMPERATURE, LEARNING_RATE, BATCH = 0.6, 0.1, 2.0, 0.003, 8


def forward(weights, images):
    """f and scores by task, from the bare tensors of a checkpoint."""
    tasks = [
        name.split(".")[1].removeprefix("task_") for name in weights if name.endswith("weight") and "heads." in name
    ]
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    for layer in (0, 2, 5, 7, 10, 12):
        x = functional.relu(
            functional.conv2d(x, weights[f"backbone.{layer}.weight"], weights[f"backbone.{layer}.bias"], padding=1)
        )
        if layer in (2, 7, 12):
            x = functional.max_pool2d(x, 2)
    x = x.flatten(1)
    own = [x @ weights[f"heads.task_{task}.weight"].T + weights[f"heads.task_{task}.bias"] for task in tasks]
    features, scores = {}, {}
    for k, task in enumerate(tasks):
        features[task] = functional.relu(sum(weights["cross_stitch"][k, j] * own[j] for j in range(len(tasks))))
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


def make_labels(weights, unlabeled_images, labeled_images, task, epoch, n_classes=N_CLASSES):
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
    return w, w[:, None] * np.eye(n_classes[task])[pseudo] + (1 - w[:, None]) * tempered


def adam(weights, moments, images, targets, epoch, purpose="order", factors=None):
    """Line 8: one pass with the loss of equation 9, Adam written out; a row of NaN is no target."""
    order = np.random.default_rng(derive_seed(0, epoch, purpose)).permutation(len(images))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        _, scores = forward(leaves, images[rows])
        loss = 0
        for task, vectors in targets.items():
            labels = torch.from_numpy(vectors[rows].astype(np.float32))
            known = ~labels[:, 0].isnan()
            if known.any():
                divergence = -(labels[known] * functional.log_softmax(scores[task][known], 1)).sum(1).mean()
                loss = loss + (factors or {}).get(task, 1) * divergence
        loss.backward()
        for name, leaf in leaves.items():
            if leaf.grad is None:
                continue
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


CLASSES = {"expression": ["angry", "happy", "sad"], "age": ["old", "young"], "pose": ["frontal", "left", "right"]}
FACTORS = {"age": 0.5}


def draw_gaps(folder):
    """Two datasets that share a task: clinic knows some expressions and ages, web some expressions and all poses.

    Some samples of clinic have no label at all.
    """
    rng = np.random.default_rng(7)
    datasets = {}
    for name, n_samples, share in (
        ("clinic", 34, {"expression": 0.6, "age": 0.4}),
        ("web", 29, {"expression": 0.3, "pose": 1.0}),
    ):
        truth = {task: rng.integers(0, len(CLASSES[task]), n_samples) for task in CLASSES}
        labels = {task: np.where(rng.random(n_samples) < known, truth[task], -1) for task, known in share.items()}
        level = 40 * truth["expression"] + 60 * truth["age"] + 30 * truth["pose"]
        pixels = rng.integers(0, 60, (n_samples, 8, 8, 1)) + level[:, None, None, None]
        classes = {task: CLASSES[task] for task in share}
        datasets[name] = write_manifest(folder, name, labels, classes, pixels)
    assert (np.stack(list(datasets["clinic"].labels.values())) < 0).all(axis=0).any()
    return datasets


def vectors_of(split, task):
    """One-hot rows of the labels that are given, NaN elsewhere."""
    n_classes = len(CLASSES[task])
    indices = split.labels.get(task, np.full(len(split.pixels), -1))
    return np.vstack([np.eye(n_classes), np.full(n_classes, np.nan)])[indices]


def test_three_tasks_with_gaps_equal_a_straight_line_version(tmp_path):
    datasets, n_classes = draw_gaps(tmp_path), {task: len(names) for task, names in CLASSES.items()}
    run = Run(tmp_path, datasets["clinic"], datasets["web"], None, None)
    weights_option = ["--task-weights", json.dumps(FACTORS)]
    run.initialize("initial", *weights_option)

    # Joint training from the weights that the seed draws: every sample trains what it has labels for.
    prepare_torch(1, derive_seed(0, 0, "initialization"))
    specification = NetworkSpecification("vgg_tiny", (8, 8, 1), 6, CLASSES, 0.9, [0.5], [0.5])
    weights = {name: value.detach().clone() for name, value in MultiTaskNetwork(specification).state_dict().items()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value), 0) for name, value in weights.items()}
    pixels = np.concatenate([split.pixels for split in datasets.values()])
    targets = {task: np.concatenate([vectors_of(split, task) for split in datasets.values()]) for task in CLASSES}
    labelled = ~np.all([np.isnan(vectors[:, 0]) for vectors in targets.values()], axis=0)
    targets = {task: vectors[labelled] for task, vectors in targets.items()}
    for number in range(2):
        adam(weights, moments, pixels[labelled], targets, 0, f"order of pass {number}", FACTORS)
    initial = load_file(run.checkpoint("initial")["network"])
    for key, value in weights.items():
        torch.testing.assert_close(initial[key], value, atol=1e-5, rtol=0, msg=f"{key} of joint training")

    previous = "initial"
    for epoch, (trained, names) in enumerate([("faces", "clinic"), ("heads", "web"), ("faces", "clinic")], start=1):
        name, split = f"gaps/epoch-{epoch:03d}", datasets[names]
        features = extract_all(run, previous, name, datasets)
        labels = {}
        for task in CLASSES:
            unlabeled = np.isnan(vectors_of(split, task)[:, 0])
            if not unlabeled.any():
                continue
            sources = [features[one] for one, other in datasets.items() if task in other.labels]
            files = weigh(tmp_path / name / task, features[names], sources, task, epoch)
            labels[task] = files["labels"]
            domain = np.concatenate(
                [other.pixels[~np.isnan(vectors_of(other, task)[:, 0])] for other in datasets.values()]
            )
            w, made = make_labels(weights, split.pixels[unlabeled], domain, task, epoch, n_classes)
            stored = read_table(files["weights"], WEIGHTS)
            assert stored["sample_id"].tolist() == np.flatnonzero(unlabeled).tolist()
            np.testing.assert_allclose(stored["selection_weight"], w, atol=1e-6, err_msg=f"w of {task}, epoch {epoch}")
            table = read_table(files["labels"], LABELS)
            expected = vectors_of(split, task)
            expected[unlabeled] = made
            assert (table["given"] == ~unlabeled).all()
            np.testing.assert_allclose(table["training_label"], expected, atol=1e-6, err_msg=f"{task}, epoch {epoch}")
        run.train(name, previous, trained=trained, labels=labels, epoch=epoch, options=weights_option)
        previous = name

        own = [*split.labels, *(task for task in CLASSES if task not in split.labels)]
        targets = {task: vectors_of(split, task) for task in own}
        for task, path in labels.items():
            gaps = np.isnan(targets[task][:, 0])
            targets[task][gaps] = read_table(path, LABELS)["training_label"][gaps]
        adam(weights, moments, split.pixels, targets, epoch, factors=FACTORS)
        trained_weights = load_file(run.checkpoint(name)["network"])
        for key, value in weights.items():
            torch.testing.assert_close(trained_weights[key], value, atol=1e-5, rtol=0, msg=f"{key} of epoch {epoch}")


def extract_all(run, checkpoint, epoch, datasets):
    """Features of every dataset for every task."""
    files, outputs = run.checkpoint(checkpoint), {}
    for name, split in datasets.items():
        outputs[name] = run.folder / epoch / f"{name}.parquet"
        extract_features.main(
            [
                *("--network", str(files["network"]), "--card", str(files["card"])),
                *("--table", str(split.table), "--images", str(split.images), "--tasks", *CLASSES),
                *("--batch-size", "7", "--threads", "1", "--device", "cpu", "--output", str(outputs[name])),
            ]
        )
    return outputs

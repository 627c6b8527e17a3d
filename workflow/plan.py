"""Who needs what: the whole run as plain Python, from checked settings and the rows of methods.

The rules ask it for their inputs and parameters, and `verify` checks a results folder against the list
of all artifacts that it gives. It speaks of the set of tasks that a dataset has labels for and of the
datasets that have labels for a task; that each set holds one is the paper's case.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from stages.core.task_labels import list_labels
from stages.data.sources.registry import find_reader

SPLITS = ("train", "validation", "test")
HELD_OUT = ("validation", "test")
CHECKPOINT_FILES = {
    "network": "network.safetensors",
    "optimizer": "optimizer.safetensors",
    "card": "checkpoint.json",
}
EXPORT_FILES = ("network.onnx", "export.json", "model_card.md")
COMPARISON_FILES = ("comparison.parquet", "comparison.csv", "comparison.md", "comparison.svg", "timing.md")
FIGURES = {
    "draw_overview": ("datasets.html", "balance.svg", "images.svg", "runs.html", "times.svg"),
    "draw_training": ("scores.svg", "losses.svg", "confusion.svg"),
    "draw_cross_stitch": ("cross_stitch.svg",),
    "draw_weights": ("distributions.svg", "classes.svg", "flips.svg"),
    "draw_truth": ("ranks.svg", "epochs.svg", "reliability.svg"),
    "draw_domains": ("mixtures.svg", "distances.svg"),
    "draw_map": ("map.svg", "discrepancy.svg"),
    "draw_samples": ("first_epoch.svg", "last_epoch.svg"),
    "draw_comparison": ("tables.html", "curves.html"),
}
"""What is drawn for the report, by rule; each leaves a record of it, `figures.json`, in the same folder."""
SELECTION_TABLES = {
    "refinement": ("refinement.parquet", "refine_labels"),
    "density": ("density.parquet", "estimate_density"),
    "responsibilities": ("responsibilities.parquet", "fit_mixture"),
    "transport": ("transport.parquet", "weigh_distribution"),
    "discrepancy": ("discrepancy.parquet", "measure_discrepancy"),
    "reliability": ("reliability.json", "estimate_reliability"),
}
"""File and rule of what labels are made from, beside the features."""


class PlanError(ValueError):
    """Something was asked for that no run makes; the message says what there is instead."""


@dataclass(frozen=True)
class Artifact:
    """A file of a finished run.

    Attributes:
        path: from the folder that Snakemake runs in.
        rule: that writes it.
        target: what it belongs to: `all`, `comparison`, `export`, `report`, or `viewing`, which may be there or not.
        disposable: whether the run may have deleted it once it was used.
    """

    path: str
    rule: str
    target: str = "all"
    disposable: bool = False

    @property
    def job(self) -> str:
        """Rule and folder, which the artifacts of one job have in common."""
        place = self.path if self.rule == "extract_features" else self.path.rpartition("/")[0]
        return f"{self.rule} {place.removesuffix('/mixture')}"


@dataclass(frozen=True)
class Contents:
    """What a run must know of a dataset beside its settings.

    Attributes:
        n_train: training samples.
        lacking: for every task that it has labels for, how many of them have none.
    """

    n_train: int
    lacking: Mapping[str, int]


def needs_contents(settings: Mapping[str, Any], dataset: str) -> bool:
    """Whether a plan depends on what is in a dataset: on gaps in its labels, or on its size."""
    of_dataset = settings["datasets"][dataset]
    has_gaps = "known" in of_dataset or (of_dataset["source"] == "table" and bool(of_dataset.get("labels")))
    return has_gaps or settings["schedule"]["turns"] == "by_size"


class Plan:
    """What a run of an experiment consists of.

    Args:
        settings: checked, defaults filled in.
        methods: rows of workflow/methods.yaml by name.
        contents: by dataset, where they matter: see `needs_contents`.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        methods: Mapping[str, Mapping[str, Any]],
        contents: Mapping[str, Contents] | None = None,
    ) -> None:
        self.settings = settings
        self.methods = methods
        self.contents = contents or {}
        self._turns: list[str] = []
        self.datasets = list(settings["datasets"])
        self.tasks = list(dict.fromkeys(task for dataset in self.datasets for task in self.tasks_of(dataset)))
        self.last_epoch = settings["training"]["epochs"]
        self.compared_methods = settings["comparison"]["methods"] or list(methods)
        self.compared_seeds = settings["comparison"]["seeds"]
        self.own_runs = [(method, seed) for seed in settings["seeds"] for method in settings["methods"]]

    # --- where things lie -------------------------------------------------------------------------

    @property
    def layout(self) -> dict[str, str]:
        """Folders of artifacts with wildcards by name; those of their logs are called `<name>_logs`."""
        results = f"results/{self.settings['experiment']}"
        folders = {
            "results": results,
            "data": f"{results}/data/{{dataset}}",
            "seed": f"{results}/seed-{{seed}}",
            "initial": f"{results}/seed-{{seed}}/{{initial}}",
            "run": f"{results}/seed-{{seed}}/{{method}}",
            "epoch": f"{results}/seed-{{seed}}/{{method}}/epoch-{{epoch}}",
            "augmented": f"{results}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/{{dataset}}",
        }
        logs = {f"{name}_logs": path.replace("results/", "logs/", 1) for name, path in folders.items()}
        return folders | logs

    @property
    def names(self) -> dict[str, str]:
        """What the wildcards of the layout may be, as regular expressions."""
        return {
            "seed": r"\d+",
            "epoch": r"00[1-9]|0[1-9]\d|[1-9]\d\d+",
            "dataset": "|".join(self.datasets),
            "task": "|".join(self.tasks),
            "method": "|".join(self.methods),
            "initial": "initial|initial_separate",
        }

    @property
    def pathvars(self) -> dict[str, str]:
        """The layout with the names in it: Snakemake does not constrain wildcards within path variables by itself."""
        constrained = {wildcard: f"{{{wildcard},{names}}}" for wildcard, names in self.names.items()}
        return {name: path.format(**constrained) for name, path in self.layout.items()}

    def locate(self, folder: str, **wildcards: Any) -> str:
        """A folder of the layout for given wildcards; epochs may be numbers, 0 is joint training."""
        if isinstance(epoch := wildcards.get("epoch"), int):
            if epoch == 0 and folder == "epoch":
                return self.locate("initial", initial=self.initial(wildcards["method"]), **wildcards)
            wildcards["epoch"] = f"{epoch:03d}"
        return self.layout[folder].format(**wildcards)

    def checkpoint(self, seed: Any, method: str, epoch: int) -> dict[str, str]:
        """The files of the checkpoint after an epoch."""
        folder = self.locate("epoch", seed=seed, method=method, epoch=epoch)
        return {name: f"{folder}/{file}" for name, file in CHECKPOINT_FILES.items()}

    # --- who has labels for what ------------------------------------------------------------------

    def tasks_of(self, dataset: str) -> list[str]:
        """The tasks that a dataset has labels for."""
        return list(list_labels(self.settings["datasets"][dataset]))

    def datasets_of(self, task: str) -> list[str]:
        """The datasets that have labels for a task."""
        return [dataset for dataset in self.datasets if task in self.tasks_of(dataset)]

    def tasks_without(self, dataset: str) -> list[str]:
        """The tasks that some training samples of a dataset lack labels for."""
        own = self.tasks_of(dataset)
        lacking = self.contents[dataset].lacking if dataset in self.contents else {}
        return [task for task in self.tasks if task not in own or lacking.get(task)]

    def audited_tasks(self, dataset: str) -> list[str]:
        """The tasks for which a dataset holds back labels that are known; they need not be trained anywhere."""
        settings = self.settings["datasets"][dataset]
        return find_reader(settings["source"]).audited_tasks(settings)

    # --- one epoch --------------------------------------------------------------------------------

    def schedule(self, method: str) -> str:
        """alternating, mixed or single."""
        return self.methods[method]["schedule"]

    def initial(self, method: str) -> str:
        """What a method's first epoch starts from: joint training, or one network per task."""
        return "initial_separate" if self.schedule(method) == "single" else "initial"

    def trained_datasets(self, method: str, epoch: int) -> list[str]:
        """The datasets that an epoch trains on: all where batches are mixed, else the one whose turn it is."""
        if epoch < 1:
            raise PlanError(f"epoch {epoch} trains on every dataset; epochs of a method begin at 1")
        if self.schedule(method) == "mixed":
            return self.datasets
        return [self.find_turn(epoch)]

    def find_turn(self, epoch: int) -> str:
        """The dataset of an epoch: number (t - 1) mod K, or the one that is furthest behind its share of the images."""
        if self.settings["schedule"]["turns"] == "in_turn":
            return self.datasets[(epoch - 1) % len(self.datasets)]
        sizes = {dataset: self.contents[dataset].n_train for dataset in self.datasets}
        while len(self._turns) < epoch:
            owed = {name: (len(self._turns) + 1) * size for name, size in sizes.items()}
            behind = {name: owed[name] - self._turns.count(name) * sum(sizes.values()) for name in sizes}
            self._turns.append(max(behind, key=behind.__getitem__))
        return self._turns[epoch - 1]

    def optimizer_settings(self) -> dict[str, Any]:
        """What moves the weights; what has no use is constant, so that changing it redoes nothing."""
        settings = self.settings["training"]
        return {
            "name": settings["optimizer"],
            "weight_decay": settings["weight_decay"],
            "momentum": settings["momentum"] if settings["optimizer"] == "sgd" else 0,
            "clip_norm": settings["clip_norm"] or 0,
            "learning_rate": settings["learning_rate"],
            "schedule": settings["schedule"],
            "warmup": settings["warmup"],
        }

    def part_of_run(self, epoch: int) -> list[float]:
        """Shares of the run at which an epoch begins and ends, for a learning rate that depends on them.

        Of K datasets an epoch counts as a K-th of a pass, however large its own is: so all methods share the joint
        training, and each dataset has as much of the run.
        """
        settings = self.settings["training"]
        if settings["schedule"] == "constant" and not settings["warmup"]:
            return [0, 1]
        ends = [settings["initial_epochs"] + number / len(self.datasets) for number in range(self.last_epoch + 1)]
        return [(ends[epoch - 1] if epoch else 0) / ends[-1], ends[epoch] / ends[-1]]

    def strong_augmentation(self, method: str) -> dict[str, Any] | None:
        """What is added to the images that a method trains on made labels; None for nothing."""
        strong = self.methods[method].get("augmentation") == "strong"
        return self.settings["training"]["strong_augmentation"] if strong else None

    def sampling(self, method: str) -> str:
        """Proportional, square_root or balanced; an epoch on one dataset draws all of it."""
        return self.settings["training"]["sampling"] if self.schedule(method) == "mixed" else "proportional"

    def equalized_tables(self, method: str) -> list[str]:
        """The manifests whose mean size is that of every epoch on one dataset; none where each has its own size.

        That is the size of a mixed epoch: all methods take as many steps.
        """
        if self.schedule(method) == "mixed" or self.settings["training"]["steps"] == "dataset":
            return []
        return [f"{self.locate('data', dataset=dataset)}/train.parquet" for dataset in self.datasets]

    def augmentations(self, method: str, epoch: int) -> list[tuple[str, str]]:
        """Task and dataset of every label table that an epoch trains on."""
        row = self.methods[method]
        transferred = "label_transfer" in row and epoch > row["label_transfer"]["warmup"]
        if not transferred and "selection" not in row:
            return []
        return [
            (task, dataset) for dataset in self.trained_datasets(method, epoch) for task in self.tasks_without(dataset)
        ]

    def check_augmentation(self, method: str, epoch: int, task: str, dataset: str) -> None:
        """Raise a PlanError where an epoch makes no labels of a task for a dataset."""
        made = self.augmentations(method, epoch)
        if (task, dataset) not in made:
            listed = ", ".join(f"{task}/{dataset}" for task, dataset in made) or "none"
            raise PlanError(
                f"Epoch {epoch} of '{method}' makes no labels for '{task}' of '{dataset}'; "
                f"those that it makes: {listed}"
            )

    def feature_tasks(self, method: str, epoch: int, dataset: str) -> list[str]:
        """The tasks whose features an epoch needs of a dataset: as the unlabeled domain, and as a labeled one."""
        made = self.augmentations(method, epoch)
        compared = "responsibilities" in self.selection_tables(method)
        wanted = {
            task for task, trained in made if dataset == trained or (compared and dataset in self.datasets_of(task))
        }
        return [task for task in self.tasks if task in wanted]

    def selection_tables(self, method: str) -> list[str]:
        """What the weights and labels of a method are computed from, beside the features."""
        row = self.methods[method]
        criteria = row["selection"] if isinstance(row.get("selection"), list) else []
        tables = []
        if "refinement" in row:
            tables.append("refinement")
        if "density" in criteria:
            tables.append("density")
        if "distribution" in criteria:
            tables += ["responsibilities", "discrepancy" if row.get("distance") == "mmd" else "transport"]
        if row.get("reliability", "none") != "none" or row.get("balance", "none") != "none":
            tables.append("reliability")
        return tables

    def selection_paths(self, **place: Any) -> dict[str, str | list[str]]:
        """These tables of one augmentation by name, and the manifests whose labels its class mix is taken from."""
        folder = self.locate("augmented", **place)
        paths = {name: f"{folder}/{SELECTION_TABLES[name][0]}" for name in self.selection_tables(place["method"])}
        aligned = self.label_settings(place["method"])["alignment"] != "none"
        return paths | ({"labeled": self.labeled_manifests(place["task"])} if aligned else {})

    def reliability(self, **place: Any) -> list[str]:
        """The estimate of how reliable the pseudo labels of an augmentation are, where there is one."""
        return [path for name, path in self.selection_paths(**place).items() if name == "reliability"]

    def labeled_manifests(self, task: str) -> list[str]:
        """The manifests of all training samples with a label for a task."""
        return [f"{self.locate('data', dataset=dataset)}/train.parquet" for dataset in self.datasets_of(task)]

    def label_settings(self, method: str) -> dict[str, Any]:
        """How a method makes its labels; what has no use is constant, so that changing it redoes nothing."""
        row, labels = self.methods[method], self.settings["labels"]
        if "label_transfer" in row:
            # What the label transfer networks say is taken as it is.
            return {
                "selection": 0,
                "distance": "emd",
                "decay_scale": "absolute",
                "sharpness": 1,
                "alignment": "none",
                "temperature": 1,
                "interpolation": "soft",
                "quantile": 0,
                "student_temperature": 1,
                "normalization": "joint",
            }
        selection = row["selection"]
        interpolation = row.get("interpolation", labels["interpolation"]) if isinstance(selection, list) else "soft"
        return {
            "selection": selection,
            "distance": row.get("distance", "emd"),
            "decay_scale": row.get("decay_scale", "absolute"),
            "sharpness": row.get("sharpness", 1),
            "alignment": row.get("alignment", "none"),
            "temperature": row.get("temperature", labels["temperature"]),
            "interpolation": interpolation,
            "quantile": row.get("quantile", labels["quantile"]) if interpolation == "threshold" else 0,
            "student_temperature": row.get("student_temperature", 1),
            "normalization": row.get("normalization", "joint"),
        }

    def strength(self, method: str, epoch: int) -> float:
        """α of an epoch: the weight of the loss of samples that train on made labels."""
        strength = self.methods[method].get("strength", 1)
        if isinstance(strength, Mapping):
            return strength["value"] * min(1, epoch / strength["ramp"])
        return strength

    def decay(self, method: str) -> float:
        """λ of a method."""
        return self.methods[method].get("decay", self.settings["transport"]["decay"])

    def density_sampling(self) -> dict[str, Any]:
        """How densities of large groups are estimated; 0 stands for what the mode makes no use of."""
        density = self.settings["density"]
        return {
            "mode": density["mode"],
            "exact_up_to": density["exact_up_to"] if density["mode"] == "auto" else 0,
            "sample_size": density["sample_size"] if density["mode"] != "exact" else 0,
        }

    def epoch_labels(self, seed: Any, method: str, epoch: int) -> list[tuple[str, str]]:
        """Task and path of the labels that an epoch trains on."""
        place = {"seed": seed, "method": method, "epoch": epoch}
        return [
            (task, f"{self.locate('augmented', task=task, dataset=dataset, **place)}/labels.parquet")
            for task, dataset in self.augmentations(method, epoch)
        ]

    def regularization(self, method: str) -> dict[str, float]:
        """What a method adds to the loss."""
        nothing = {"laplacian": 0, "l21": 0, "joint_nuclear": 0, "task_nuclear": 0, "neighbors": 5}
        return nothing | self.methods[method].get("regularization", {})

    @property
    def last_weights_teach(self) -> bool:
        """Whether the soft labels are those of the last weights, in the place of their average."""
        return self.settings["training"]["average"] > 0 and self.settings["labels"]["teacher"] == "last"

    def label_source(self, method: str) -> str:
        """Who gives the soft labels: the classifiers or the label transfer networks."""
        return "transfer" if "label_transfer" in self.methods[method] else "classifier"

    # --- all of it --------------------------------------------------------------------------------

    def files_of_epochs(self, seed: Any, method: str, file: str) -> list[str]:
        """A file of every checkpoint of a run, joint training first."""
        epochs = range(self.last_epoch + 1)
        return [f"{self.locate('epoch', seed=seed, method=method, epoch=epoch)}/{file}" for epoch in epochs]

    def exports(self) -> list[str]:
        """The exports of the experiment's runs."""
        runs = [self.locate("run", seed=seed, method=method) for method, seed in self.own_runs]
        return [f"{run}/{file}" for run in runs for file in ("network.onnx", "model_card.md")]

    def card_metrics(self, seed: Any, method: str) -> dict[int, str]:
        """The metrics of all seeds of a method: the experiment's, and a card's own."""
        seeds = sorted({*self.settings["seeds"], int(seed)})
        return {one: f"{self.locate('run', seed=one, method=method)}/metrics.parquet" for one in seeds}

    def card_settings(self) -> dict[str, Any]:
        """The settings that a network depends on, for its model card; where files lie is none of its business."""
        sections = ("images", "network", "training", "features", "density", "mixture", "transport", "labels")
        settings = {name: self.settings[name] for name in ("experiment", "seeds", *sections)}
        settings["datasets"] = {
            name: {key: value for key, value in dataset.items() if key not in ("path", "images")}
            for name, dataset in self.settings["datasets"].items()
        }
        if pretrained := settings["network"]["pretrained"]:
            settings["network"] = settings["network"] | {"pretrained": PurePath(pretrained).name}
        return settings

    def thinned_networks(self, seed: Any, method: str) -> list[str]:
        """The networks that go once a run is finished, but for the chosen one."""
        paths = self.files_of_epochs(seed, method, CHECKPOINT_FILES["network"])
        return [path for epoch, path in enumerate(paths) if not self.keeps_network(epoch)]

    def keeps_optimizer(self, epoch: int) -> bool:
        """Whether the state of training after an epoch stays once a run is finished."""
        kept = self.settings["storage"]["keep_optimizers"]
        return epoch == 0 or kept == "all" or epoch > self.last_epoch - kept

    def discarded_optimizers(self, seed: Any, method: str, epoch: int) -> list[str]:
        """The optimizer states that nothing needs any more once an epoch is trained."""
        kept = self.settings["storage"]["keep_optimizers"]
        old = epoch - kept if kept != "all" else 0
        return [self.checkpoint(seed, method, old)["optimizer"]] if old >= 1 else []

    def keeps_network(self, epoch: int) -> bool:
        """Whether the network of an epoch stays once a run is finished, chosen or not."""
        kept = self.settings["storage"]["keep_networks"]
        if kept == "all" or epoch in (0, self.last_epoch):
            return True
        return kept != "last" and epoch % kept["every"] == 0

    def audited_datasets(self) -> list[str]:
        """The datasets whose labels held back are read: those that the experiment's runs make labels for."""
        audited = {
            dataset
            for method, _ in self.own_runs
            for epoch in range(1, self.last_epoch + 1)
            for task, dataset in self.augmentations(method, epoch)
            if task in self.audited_tasks(dataset)
        }
        return [dataset for dataset in self.datasets if dataset in audited]

    def audits(self) -> list[str]:
        """The audits of the experiment: of all epochs and tasks for which labels were held back."""
        return [artifact.path for artifact in self.artifacts() if artifact.rule == "audit_weights"]

    def weighed_epochs(self, method: str, task: str, dataset: str) -> list[int]:
        """The epochs of a method that weigh the samples of a dataset for a task.

        Raises:
            PlanError: there are none.
        """
        epochs = range(1, self.last_epoch + 1)
        found = [epoch for epoch in epochs if (task, dataset) in self.augmentations(method, epoch)]
        if not found:
            raise PlanError(f"No epoch of '{method}' makes labels for '{task}' of '{dataset}'")
        return found

    def held_back(self, task: str, dataset: str) -> list[str]:
        """The table of a dataset's labels that are held back for a task, where there are any."""
        known = task in self.audited_tasks(dataset)
        return [f"{self.locate('data', dataset=dataset)}/audit/train.parquet"] if known else []

    def name_domains(self, task: str, dataset: str) -> list[str]:
        """What figures call the unlabeled and the labeled domain, of which one dataset may have a share in both."""
        labeled = self.datasets_of(task)
        return [f"{dataset} (unlabelled)" if dataset in labeled else dataset, "+".join(labeled)]

    def label_tables(self, runs: Iterable[tuple[str, int]]) -> list[str]:
        """Weights and labels of all epochs of some runs, given as method and seed."""
        folders = [
            self.locate("augmented", task=task, dataset=dataset, method=method, seed=seed, epoch=epoch)
            for method, seed in runs
            for epoch in range(1, self.last_epoch + 1)
            for task, dataset in self.augmentations(method, epoch)
        ]
        return [f"{folder}/{table}.parquet" for folder in folders for table in ("weights", "labels")]

    def report(self, *, compared: bool) -> list[str]:
        """The figures and tables of the report, those of a comparison only where there is one."""
        rules = {rule: FIGURES[rule] for rule in FIGURES if compared or rule != "draw_comparison"}
        drawn = [f"{folder}/{file}" for folder, rule in self.pictures().items() for file in rules.get(rule, ())]
        return [*drawn, self.report_explorer]

    @property
    def report_explorer(self) -> str:
        """The folder of the report's own explorer, of few samples."""
        return f"{self.layout['results']}/report/explorer"

    def pictures(self) -> dict[str, str]:
        """The rule that draws it by the folder of every part of the report; the comparison's is always among them."""
        folders = {f"{self.layout['results']}/report/overview": "draw_overview"}
        for method, seed in self.own_runs:
            run = f"{self.locate('run', seed=seed, method=method)}/report"
            folders[f"{run}/training"] = "draw_training"
            if self.schedule(method) != "single" and len(self.tasks) > 1:
                folders[f"{run}/cross_stitch"] = "draw_cross_stitch"
            for task, dataset in self.weighed_pairs(method):
                for rule in self._choose_pictures(method, task, dataset):
                    folders[f"{run}/{rule.removeprefix('draw_')}/{task}/{dataset}"] = rule
        return folders | {f"{self.layout['results']}/report/comparison": "draw_comparison"}

    def weighed_pairs(self, method: str) -> list[tuple[str, str]]:
        """Task and dataset of all label tables of a method, in the order of its epochs."""
        made = (pair for epoch in range(1, self.last_epoch + 1) for pair in self.augmentations(method, epoch))
        return list(dict.fromkeys(made))

    def _choose_pictures(self, method: str, task: str, dataset: str) -> Iterator[str]:
        """What can be drawn of one label table."""
        yield "draw_weights"
        yield "draw_samples"
        if task in self.audited_tasks(dataset):
            yield "draw_truth"
        if "transport" in self.selection_tables(method):
            yield "draw_domains"
            if self.settings["storage"]["keep_features"]:
                yield "draw_map"

    def runs(self) -> dict[tuple[str, int], str]:
        """All method and seed pairs of the experiment, with the target that asks for them first."""
        compared = {(method, seed): "comparison" for method in self.compared_methods for seed in self.compared_seeds}
        return compared | dict.fromkeys(self.own_runs, "all")

    def artifacts(self) -> list[Artifact]:
        """Everything that the experiment leaves when it is finished, compared and exported."""
        runs = self.runs()
        listed = dict(self._list_shared(runs))
        for (method, seed), target in runs.items():
            for artifact in self._list_run(method, seed, target):
                listed.setdefault(artifact.path, artifact)
        for (method, seed), target in runs.items():
            if target == "all":
                folder = self.locate("run", seed=seed, method=method)
                rules = ("export_network", "export_network", "write_model_card")
                for file, rule in zip(EXPORT_FILES, rules, strict=True):
                    listed[f"{folder}/{file}"] = Artifact(f"{folder}/{file}", rule, "export")
                path = f"{folder}/samples.parquet"
                listed[path] = Artifact(path, "collect_samples", "viewing")
        path = f"{self.layout['results']}/explorer"
        listed[path] = Artifact(path, "export_explorer", "viewing")
        listed[self.report_explorer] = Artifact(self.report_explorer, "export_explorer", "report")
        for file in COMPARISON_FILES:
            path = f"{self.layout['results']}/{file}"
            listed[path] = Artifact(path, "sum_benchmarks" if file == "timing.md" else "compare_methods", "comparison")
        for folder, rule in self.pictures().items():
            for file in (*FIGURES[rule], "figures.json"):
                listed[f"{folder}/{file}"] = Artifact(f"{folder}/{file}", rule, "report")
        return list(listed.values())

    def _list_shared(self, runs: Mapping[tuple[str, int], str]) -> Iterator[tuple[str, Artifact]]:
        def give(path: str, rule: str, target: str = "all") -> tuple[str, Artifact]:
            return path, Artifact(path, rule, target)

        audited = self.audited_datasets()
        for dataset in self.datasets:
            folder = self.locate("data", dataset=dataset)
            for split in SPLITS:
                yield give(f"{folder}/{split}.parquet", "prepare_images")
                yield give(f"{folder}/{split}.npy", "prepare_images")
                if dataset in audited:
                    yield give(f"{folder}/audit/{split}.parquet", "prepare_audit")
        # Those of the experiment itself last: what it shares with the comparison belongs to it.
        for (method, seed), target in sorted(runs.items(), key=lambda run: run[1] == "all"):
            for path in self.checkpoint(seed, method, 0).values():
                yield give(path, "initialize_network", target)
            yield give(
                f"{self.locate('epoch', seed=seed, method=method, epoch=0)}/metrics.json", "evaluate_network", target
            )

    def _list_run(self, method: str, seed: int, target: str) -> Iterator[Artifact]:
        used = not self.settings["storage"]["keep_features"]
        for epoch in range(1, self.last_epoch + 1):
            folder = self.locate("epoch", seed=seed, method=method, epoch=epoch)
            for dataset in self.datasets:
                if self.feature_tasks(method, epoch, dataset):
                    yield Artifact(f"{folder}/features/{dataset}.parquet", "extract_features", target, used)
            for task, dataset in self.augmentations(method, epoch):
                place = f"{folder}/{task}/{dataset}"
                for path, rule in self._list_tables(method):
                    yield Artifact(f"{place}/{path}", rule, target, used and path == "responsibilities.parquet")
                if target == "all" and task in self.audited_tasks(dataset):
                    yield Artifact(f"{place}/audit.parquet", "audit_weights", target)
            files = self.checkpoint(seed, method, epoch)
            yield Artifact(files["network"], "train_epoch", target, not self.keeps_network(epoch))
            yield Artifact(files["optimizer"], "train_epoch", target, not self.keeps_optimizer(epoch))
            yield Artifact(files["card"], "train_epoch", target)
            yield Artifact(f"{folder}/metrics.json", "evaluate_network", target)
        folder = self.locate("run", seed=seed, method=method)
        for file in ("metrics.parquet", "network.safetensors"):
            yield Artifact(f"{folder}/{file}", "collect_metrics", target)

    def _list_tables(self, method: str) -> Iterator[tuple[str, str]]:
        """Name and rule of the tables in the folder of one augmentation."""
        for name in self.selection_tables(method):
            yield SELECTION_TABLES[name]
            if name == "responsibilities":
                yield from ((f"mixture/{domain}.parquet", "fit_mixture") for domain in ("unlabeled", "labeled"))
        yield "weights.parquet", "materialize_labels"
        yield "labels.parquet", "materialize_labels"

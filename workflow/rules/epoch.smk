# One epoch, in the order of Algorithm 1: what the network of the epoch before says of the images, how
# far that can be trusted, the labels made from it, training on them. Epoch 0 is joint training.

# Params of every stage that runs a network, and the options that hand them over.
NETWORK = {
    "device_kind": DEVICE_KIND,
    "device": untracked(config["compute"]["device"]),
    "n_threads": config["compute"]["threads"],
}
NETWORK_OPTIONS = " --device {params.device} --threads {params.n_threads}"
TRAINING = {
    **NETWORK,
    # Snakemake compares inputs without regard to their order.
    "order": PLAN.datasets,
    "batch_size": config["training"]["batch_size"],
    "task_weights": json.dumps(
        {task: shared["weight"] for task, shared in config["tasks"].items() if shared["weight"] != 1}
    ),
    "class_weights": config["training"]["class_weights"],
    "label_smoothing": config["training"]["label_smoothing"],
    "optimizer": PLAN.optimizer_settings(),
    "part": lambda wildcards: PLAN.part_of_run(int(wildcards.get("epoch", 0))),
    "average": config["training"]["average"],
    "augmentation": json.dumps(config["training"]["augmentation"]),
    "devices": DEVICES,
    "loader_workers": untracked(config["training"]["loader_workers"]),
}
TRAINING_OPTIONS = (
    " --seed {wildcards.seed}"
    " --batch-size {params.batch_size}"
    " --task-weights {params.task_weights:q}"
    " --class-weights {params.class_weights}"
    " --label-smoothing {params.label_smoothing}"
    " --optimizer-name {params.optimizer[name]}"
    " --weight-decay {params.optimizer[weight_decay]}"
    " --momentum {params.optimizer[momentum]}"
    " --clip-norm {params.optimizer[clip_norm]}"
    " --learning-rate {params.optimizer[learning_rate]}"
    " --rate-schedule {params.optimizer[schedule]}"
    " --warmup {params.optimizer[warmup]}"
    " --part {params.part}"
    " --average {params.average}"
    " --loader-workers {params.loader_workers}"
    " --augmentation {params.augmentation:q}"
    " --devices {params.devices}"
    " --output-network {output.network}"
    " --output-optimizer {output.optimizer}"
    " --output-card {output.card}"
) + NETWORK_OPTIONS


# Line 1 of Algorithm 1: once per seed for all methods but single-task learning.
rule initialize_network:
    input:
        **prepared(PLAN.datasets, "train"),
    output:
        **{name: f"<initial>/{file}" for name, file in CHECKPOINT_FILES.items()},
    log:
        "<initial_logs>/initialize_network.log",
    benchmark:
        "<initial_logs>/initialize_network.benchmark.tsv"
    threads: network_threads("initialize_network")
    resources:
        **ask("initialize_network"),
    params:
        **TRAINING,
        code=identify("epoch.initialize_network"),
        backbone=config["network"]["backbone"],
        pretrained=untracked(config["network"]["pretrained"] or "none"),
        pretrained_digest=pretrained_digest(),
        head_features=config["network"]["head_features"],
        cross_stitch_identity=config["network"]["cross_stitch_identity"],
        mean=config["images"]["mean"] or [],
        std=config["images"]["std"] or [],
        fit=config["images"]["fit"],
        separate=lambda wildcards: wildcards.initial == "initial_separate",
        # Networks that share nothing mix nothing.
        sampling=lambda wildcards: (
            "proportional" if wildcards.initial == "initial_separate" else config["training"]["sampling"]
        ),
        passes=config["training"]["initial_epochs"],
    shell:
        command(
            "python -m stages.epoch.initialize_network"
            " --tables {input.tables}"
            " --images {input.images}"
            " --backbone {params.backbone}"
            " --pretrained {params.pretrained:q}"
            " --head-features {params.head_features}"
            " --cross-stitch-identity {params.cross_stitch_identity}"
            " --mean {params.mean}"
            " --std {params.std}"
            " --fit {params.fit}"
            " --separate {params.separate}"
            " --sampling {params.sampling}"
            " --passes {params.passes}",
            TRAINING_OPTIONS,
        )


# Features and soft labels (section 4.1), of every dataset that the epoch makes labels for or from.
rule extract_features:
    input:
        network=lambda wildcards: previous_checkpoint(wildcards)["network"],
        card=lambda wildcards: previous_checkpoint(wildcards)["card"],
        last=lambda wildcards: [previous_checkpoint(wildcards)["optimizer"]] if PLAN.last_weights_teach else [],
        table="<data>/train.parquet",
        images="<data>/train.npy",
    output:
        disposable("<epoch>/features/{dataset}.parquet"),
    log:
        "<epoch_logs>/extract_features.{dataset}.log",
    benchmark:
        "<epoch_logs>/extract_features.{dataset}.benchmark.tsv"
    threads: network_threads("extract_features")
    resources:
        **ask("extract_features"),
    params:
        **NETWORK,
        code=identify("epoch.extract_features"),
        tasks=lambda wildcards: PLAN.feature_tasks(wildcards.method, int(wildcards.epoch), wildcards.dataset),
        normalize=config["features"]["normalize"],
        label_source=lambda wildcards: PLAN.label_source(wildcards.method),
        batch_size=config["features"]["batch_size"],
        # Any number of processes gives the same features, to the bit.
        devices=untracked(DEVICES),
    shell:
        command(
            "python -m stages.epoch.extract_features"
            " --network {input.network}"
            " --card {input.card}"
            " --last-weights {input.last}"
            " --table {input.table}"
            " --images {input.images}"
            " --tasks {params.tasks}"
            " --normalize {params.normalize}"
            " --label-source {params.label_source}"
            " --batch-size {params.batch_size}"
            " --devices {params.devices}"
            " --output {output}",
            NETWORK_OPTIONS,
        )


# w^d (supplementary G): how densely a sample lies among those with its pseudo label.
rule estimate_density:
    input:
        features=UNLABELED,
    output:
        "<augmented>/density.parquet",
    log:
        "<augmented_logs>/estimate_density.log",
    benchmark:
        "<augmented_logs>/estimate_density.benchmark.tsv"
    threads: DENSITY_CORES
    resources:
        **ask("estimate_density"),
    params:
        code=identify("epoch.estimate_density"),
        cutoff_quantile=config["density"]["cutoff_quantile"],
        sampling=PLAN.density_sampling(),
        device=untracked("cpu" if config["compute"]["device"] == "cpu" else "auto"),
    shell:
        command(
            "python -m stages.epoch.estimate_density"
            " --features {input.features}"
            " --task {wildcards.task}"
            " --cutoff-quantile {params.cutoff_quantile}"
            " --mode {params.sampling[mode]}"
            " --exact-up-to {params.sampling[exact_up_to]}"
            " --sample-size {params.sampling[sample_size]}"
            " --seed {wildcards.seed}"
            " --epoch {wildcards.epoch}"
            " --device {params.device}"
            " --threads {threads}"
            " --output {output}",
        )


# The clusters of both domains (section 4.1.2).
rule fit_mixture:
    input:
        unlabeled=UNLABELED,
        labeled=LABELED,
    output:
        unlabeled="<augmented>/mixture/unlabeled.parquet",
        labeled="<augmented>/mixture/labeled.parquet",
        responsibilities=disposable("<augmented>/responsibilities.parquet"),
    log:
        "<augmented_logs>/fit_mixture.log",
    benchmark:
        "<augmented_logs>/fit_mixture.benchmark.tsv"
    threads: config["compute"]["threads"]
    resources:
        **ask("fit_mixture"),
    params:
        code=identify("epoch.fit_mixture"),
        order=lambda wildcards: PLAN.datasets_of(wildcards.task),
        components=config["mixture"]["components"],
        covariance=config["mixture"]["covariance"],
        max_iterations=config["mixture"]["max_iterations"],
        tolerance=config["mixture"]["tolerance"],
        n_threads=config["compute"]["threads"],
    shell:
        command(
            "python -m stages.epoch.fit_mixture"
            " --task {wildcards.task}"
            " --unlabeled {input.unlabeled}"
            " --labeled {input.labeled}"
            " --components {params.components}"
            " --covariance {params.covariance}"
            " --max-iterations {params.max_iterations}"
            " --tolerance {params.tolerance}"
            " --seed {wildcards.seed}"
            " --epoch {wildcards.epoch}"
            " --threads {params.n_threads}"
            " --output-unlabeled {output.unlabeled}"
            " --output-labeled {output.labeled}"
            " --output-responsibilities {output.responsibilities}",
        )


# d^E (equation 7, supplementary H): how far each cluster is from the labeled domain, for w^g.
rule weigh_distribution:
    input:
        unlabeled="<augmented>/mixture/unlabeled.parquet",
        labeled="<augmented>/mixture/labeled.parquet",
    output:
        "<augmented>/transport.parquet",
    log:
        "<augmented_logs>/weigh_distribution.log",
    benchmark:
        "<augmented_logs>/weigh_distribution.benchmark.tsv"
    threads: 1
    resources:
        **ask("weigh_distribution"),
    params:
        code=identify("epoch.weigh_distribution"),
        ground_distance=config["transport"]["ground_distance"],
        decay=lambda wildcards: PLAN.decay(wildcards.method),
    shell:
        command(
            "python -m stages.epoch.weigh_distribution"
            " --unlabeled {input.unlabeled}"
            " --labeled {input.labeled}"
            " --ground-distance {params.ground_distance}"
            " --decay {params.decay}"
            " --output {output}",
        )


# How many pseudo labels are right, and what that makes of the strength of what is learned from them.
rule estimate_reliability:
    input:
        features=UNLABELED,
        labeled=lambda wildcards: PLAN.labeled_manifests(wildcards.task),
        metrics=previous_metrics,
    output:
        "<augmented>/reliability.json",
    log:
        "<augmented_logs>/estimate_reliability.log",
    benchmark:
        "<augmented_logs>/estimate_reliability.benchmark.tsv"
    threads: 1
    resources:
        **ask("estimate_reliability"),
    params:
        code=identify("epoch.estimate_reliability"),
        estimate=lambda wildcards: METHODS[wildcards.method].get("reliability", "none"),
        balance=lambda wildcards: METHODS[wildcards.method].get("balance", "none"),
    shell:
        command(
            "python -m stages.epoch.estimate_reliability"
            " --task {wildcards.task}"
            " --features {input.features}"
            " --labeled {input.labeled}"
            " --metrics {input.metrics}"
            " --estimate {params.estimate}"
            " --balance {params.balance}"
            " --seed {wildcards.seed}"
            " --epoch {wildcards.epoch}"
            " --output {output}",
        )


# w = w^c w^d w^g over its maximum, and the labels that the epoch trains on (sections 4.1 and 4.2).
rule materialize_labels:
    input:
        unpack(lambda wildcards: PLAN.selection_paths(**wildcards)),
        features=UNLABELED,
    output:
        weights="<augmented>/weights.parquet",
        labels="<augmented>/labels.parquet",
    log:
        "<augmented_logs>/materialize_labels.log",
    benchmark:
        "<augmented_logs>/materialize_labels.benchmark.tsv"
    threads: 1
    resources:
        **ask("materialize_labels"),
    params:
        code=identify("epoch.materialize_labels"),
        tables=lambda wildcards, input: [f"--{name} {input[name]}" for name in PLAN.selection_paths(**wildcards)],
        labels=lambda wildcards: PLAN.label_settings(wildcards.method),
        strength=lambda wildcards: PLAN.strength(wildcards.method, int(wildcards.epoch)),
        selection=lambda wildcards: json.dumps(PLAN.label_settings(wildcards.method)["selection"]),
    shell:
        command(
            "python -m stages.epoch.materialize_labels"
            " --task {wildcards.task}"
            " --features {input.features}"
            " {params.tables}"
            " --selection {params.selection:q}"
            " --distance {params.labels[distance]}"
            " --decay-scale {params.labels[decay_scale]}"
            " --sharpness {params.labels[sharpness]}"
            " --alignment {params.labels[alignment]}"
            " --temperature {params.labels[temperature]}"
            " --interpolation {params.labels[interpolation]}"
            " --quantile {params.labels[quantile]}"
            " --strength {params.strength}"
            " --student-temperature {params.labels[student_temperature]}"
            " --normalization {params.labels[normalization]}"
            " --output-weights {output.weights}"
            " --output-labels {output.labels}",
        )


# Equations 5 and 9.
rule train_epoch:
    input:
        unpack(previous_checkpoint),
        unpack(lambda wildcards: prepared(PLAN.trained_datasets(wildcards.method, int(wildcards.epoch)), "train")),
        labels=lambda wildcards: [path for _, path in epoch_labels(wildcards)],
        equalized=lambda wildcards: PLAN.equalized_tables(wildcards.method),
    output:
        **{name: f"<epoch>/{file}" for name, file in CHECKPOINT_FILES.items()},
    log:
        "<epoch_logs>/train_epoch.log",
    benchmark:
        "<epoch_logs>/train_epoch.benchmark.tsv"
    threads: network_threads("train_epoch")
    resources:
        **ask("train_epoch"),
    params:
        **TRAINING,
        code=identify("epoch.train_epoch"),
        schedule=lambda wildcards: PLAN.schedule(wildcards.method),
        sampling=lambda wildcards: PLAN.sampling(wildcards.method),
        strong_augmentation=lambda wildcards: json.dumps(PLAN.strong_augmentation(wildcards.method)),
        labels=lambda wildcards: [f"{task}={path}" for task, path in epoch_labels(wildcards)],
        label_transfer=lambda wildcards: "label_transfer" in METHODS[wildcards.method],
        regularization=lambda wildcards: PLAN.regularization(wildcards.method),
        discarded=untracked(
            lambda wildcards: PLAN.discarded_optimizers(wildcards.seed, wildcards.method, int(wildcards.epoch))
        ),
    shell:
        command(
            "python -m stages.epoch.train_epoch"
            " --schedule {params.schedule}"
            " --sampling {params.sampling}"
            " --strong-augmentation {params.strong_augmentation:q}"
            " --tables {input.tables}"
            " --images {input.images}"
            " --network {input.network}"
            " --optimizer {input.optimizer}"
            " --card {input.card}"
            " --equalized {input.equalized}"
            " --labels {params.labels}"
            " --label-transfer {params.label_transfer}"
            " --laplacian {params.regularization[laplacian]}"
            " --l21 {params.regularization[l21]}"
            " --joint-nuclear {params.regularization[joint_nuclear]}"
            " --task-nuclear {params.regularization[task_nuclear]}"
            " --neighbors {params.regularization[neighbors]}"
            " --epoch {wildcards.epoch}"
            " --discard {params.discarded}",
            TRAINING_OPTIONS,
        )


rule evaluate_network:
    input:
        **prepared(PLAN.datasets, *HELD_OUT),
        network="<seed>/{checkpoint}/network.safetensors",
        card="<seed>/{checkpoint}/checkpoint.json",
    output:
        "<seed>/{checkpoint}/metrics.json",
    log:
        "<seed_logs>/{checkpoint}/evaluate_network.log",
    benchmark:
        "<seed_logs>/{checkpoint}/evaluate_network.benchmark.tsv"
    threads: config["compute"]["threads"]
    resources:
        **ask("evaluate_network"),
    params:
        **NETWORK,
        code=identify("epoch.evaluate_network"),
        order=PLAN.datasets,
        batch_size=config["features"]["batch_size"],
    shell:
        command(
            "python -m stages.epoch.evaluate_network"
            " --network {input.network}"
            " --card {input.card}"
            " --tables {input.tables}"
            " --images {input.images}"
            " --batch-size {params.batch_size}"
            " --output {output}",
            NETWORK_OPTIONS,
        )

# One epoch: on one dataset, or on a share of all of them.


rule train_epoch:
    input:
        unpack(previous_checkpoint),
        unpack(lambda wildcards: prepared(datasets_of_epoch(wildcards), "train")),
        labels=label_tables,
    output:
        **checkpoint_files(EPOCH),
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/train_epoch.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/train_epoch.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: config["compute"]["threads"]
    params:
        code=stage_digest("train_epoch"),
        schedule=schedule_of,
        labels=label_options,
        label_transfer=lambda wildcards: "label_transfer" in METHODS[wildcards.method],
        laplacian=method_setting("regularization", "laplacian", default=0),
        l21=method_setting("regularization", "l21", default=0),
        joint_nuclear=method_setting("regularization", "joint_nuclear", default=0),
        task_nuclear=method_setting("regularization", "task_nuclear", default=0),
        neighbors=method_setting("regularization", "neighbors", default=5),
        batch_size=config["training"]["batch_size"],
        learning_rate=config["training"]["learning_rate"],
        augmentation=config["training"]["augmentation"],
        loader_workers=untracked(config["training"]["loader_workers"]),
        device=config["compute"]["device"],
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.train_epoch"
        " --schedule {params.schedule}"
        " --tables {input.tables}"
        " --images {input.images}"
        " --network {input.network}"
        " --optimizer {input.optimizer}"
        " --labels {params.labels}"
        " --label-transfer {params.label_transfer}"
        " --laplacian {params.laplacian}"
        " --l21 {params.l21}"
        " --joint-nuclear {params.joint_nuclear}"
        " --task-nuclear {params.task_nuclear}"
        " --neighbors {params.neighbors}"
        " --epoch {wildcards.epoch}"
        " --batch-size {params.batch_size}"
        " --learning-rate {params.learning_rate}"
        " --loader-workers {params.loader_workers}"
        " --seed {wildcards.seed}"
        " --horizontal-flip {params.augmentation[horizontal_flip]}"
        " --shift {params.augmentation[shift]}"
        " --brightness {params.augmentation[brightness]}"
        " --contrast {params.augmentation[contrast]}"
        " --device {params.device}"
        " --threads {params.n_threads}"
        " --output-network {output.network}"
        " --output-optimizer {output.optimizer}"
        " --output-card {output.card}"
        " 2>&1 | tee {log}"

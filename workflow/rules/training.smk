# One epoch on one dataset.


rule train_epoch:
    input:
        unpack(previous_checkpoint),
        unpack(lambda wildcards: prepared([dataset_of_epoch(wildcards)], "train")),
        labels=lambda wildcards: list(epoch_labels(wildcards).values()),
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
        labels=label_options,
        batch_size=config["training"]["batch_size"],
        learning_rate=config["training"]["learning_rate"],
        augmentation=config["training"]["augmentation"],
        loader_workers=untracked(config["training"]["loader_workers"]),
        device=config["compute"]["device"],
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.train_epoch"
        " --table {input.tables}"
        " --images {input.images}"
        " --network {input.network}"
        " --optimizer {input.optimizer}"
        " --labels {params.labels}"
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

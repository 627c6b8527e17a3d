# What the network of the previous epoch says about the images.


rule extract_features:
    input:
        unpack(lambda wildcards: {"network": previous_checkpoint(wildcards)["network"]}),
        **prepared(DATASETS, "train"),
    output:
        [disposable(f"{EPOCH}/features/{dataset}.parquet") for dataset in DATASETS],
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/extract_features.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/extract_features.benchmark.tsv"
    wildcard_constraints:
        method="|".join(DISTRIBUTION_METHODS),
    conda:
        ENVIRONMENT
    threads: config["compute"]["threads"]
    params:
        code=stage_digest("extract_features"),
        tasks=lambda wildcards: [wanted_tasks(dataset, wildcards) for dataset in DATASETS],
        normalize=config["features"]["normalize"],
        label_source="classifier",
        batch_size=config["features"]["batch_size"],
        device=config["compute"]["device"],
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.extract_features"
        " --network {input.network}"
        " --tables {input.tables}"
        " --images {input.images}"
        " --tasks {params.tasks}"
        " --normalize {params.normalize}"
        " --label-source {params.label_source}"
        " --batch-size {params.batch_size}"
        " --device {params.device}"
        " --threads {params.n_threads}"
        " --outputs {output}"
        " 2>&1 | tee {log}"


# Methods that do not compare domains need the datasets being trained on, one by one.
use rule extract_features as extract_unlabeled_features with:
    input:
        unpack(lambda wildcards: {"network": previous_checkpoint(wildcards)["network"]}),
        tables=f"{DATA}/train.parquet",
        images=f"{DATA}/train.npy",
    output:
        disposable(f"{EPOCH}/features/{{dataset}}.parquet"),
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/extract_features.{{dataset}}.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/extract_features.{{dataset}}.benchmark.tsv"
    wildcard_constraints:
        method="|".join(name for name in METHODS if name not in DISTRIBUTION_METHODS),
    params:
        code=stage_digest("extract_features"),
        tasks=lambda wildcards: [wanted_tasks(wildcards.dataset, wildcards)],
        normalize=config["features"]["normalize"],
        label_source=lambda wildcards: "transfer" if wildcards.method in TRANSFER_METHODS else "classifier",
        batch_size=config["features"]["batch_size"],
        device=config["compute"]["device"],
        n_threads=config["compute"]["threads"],

# What the epochs of a run come to: whether their weights can be trusted, and how they scored.


rule audit_weights:
    input:
        weights="<augmented>/weights.parquet",
        labels="<data>/audit/train.parquet",
    output:
        "<augmented>/audit.parquet",
    log:
        "<augmented_logs>/audit_weights.log",
    benchmark:
        "<augmented_logs>/audit_weights.benchmark.tsv"
    threads: 1
    params:
        code=identify("audit_weights"),
    shell:
        "python -m stages.audit_weights"
        " --task {wildcards.task}"
        " --weights-table {input.weights}"
        " --audit-table {input.labels}"
        " --output {output}" + TEE


def all_checkpoints(wildcards):
    """Folders of the checkpoints of a run, joint training first."""
    return [PLAN.locate("epoch", epoch=epoch, **wildcards) for epoch in range(PLAN.last_epoch + 1)]


def last_checkpoint(wildcards):
    return PLAN.checkpoint(wildcards.seed, wildcards.method, PLAN.last_epoch)


rule collect_metrics:
    input:
        metrics=lambda wildcards: [f"{folder}/metrics.json" for folder in all_checkpoints(wildcards)],
        network=lambda wildcards: last_checkpoint(wildcards)["network"],
    output:
        metrics="<run>/metrics.parquet",
        network="<run>/network.safetensors",
    log:
        "<run_logs>/collect_metrics.log",
    benchmark:
        "<run_logs>/collect_metrics.benchmark.tsv"
    threads: 1
    params:
        code=identify("collect_metrics"),
    shell:
        "python -m stages.collect_metrics"
        " --metrics {input.metrics}"
        " --network {input.network}"
        " --output-metrics {output.metrics}"
        " --output-network {output.network}" + TEE

# What the epochs of a run come to: whether their weights can be trusted, and how they scored.


rule audit_weights:
    input:
        weights="<augmented>/weights.parquet",
        reliability=lambda wildcards: PLAN.reliability(**wildcards),
        labels="<data>/audit/train.parquet",
    output:
        "<augmented>/audit.parquet",
    log:
        "<augmented_logs>/audit_weights.log",
    benchmark:
        "<augmented_logs>/audit_weights.benchmark.tsv"
    threads: 1
    resources:
        **ask("audit_weights"),
    params:
        code=identify("report.audit_weights"),
    shell:
        command(
            "python -m stages.report.audit_weights"
            " --task {wildcards.task}"
            " --weights-table {input.weights}"
            " --audit-table {input.labels}"
            " --reliability {input.reliability}"
            " --output {output}",
        )


rule collect_metrics:
    input:
        metrics=files_of_checkpoints("metrics.json"),
        network=lambda wildcards: files_of_checkpoints("network.safetensors")(wildcards)[None if STORAGE else -1 :],
    output:
        metrics="<run>/metrics.parquet",
        network="<run>/network.safetensors",
    log:
        "<run_logs>/collect_metrics.log",
    benchmark:
        "<run_logs>/collect_metrics.benchmark.tsv"
    threads: 1
    resources:
        **ask("collect_metrics"),
    params:
        code=identify("report.collect_metrics"),
        # No inputs, unless they lie elsewhere: networks that were thinned out shall not be trained again.
        networks=files_of_checkpoints("network.safetensors"),
        select=config["training"]["select"],
        discarded=lambda wildcards: PLAN.thinned_networks(wildcards.seed, wildcards.method),
    shell:
        command(
            "python -m stages.report.collect_metrics"
            " --metrics {input.metrics}"
            " --networks {params.networks}"
            " --select {params.select}"
            " --discard {params.discarded}"
            " --output-metrics {output.metrics}"
            " --output-network {output.network}",
        )

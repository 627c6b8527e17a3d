# Scores of every checkpoint, and all of them in one table.


rule evaluate_network:
    input:
        tables=expand(f"{DATA}/{{split}}.parquet", dataset=DATASETS, split=HELD_OUT),
        images=expand(f"{DATA}/{{split}}.npy", dataset=DATASETS, split=HELD_OUT),
        network=f"{RESULTS}/seed-{{seed}}/{{checkpoint}}/network.safetensors",
        card=f"{RESULTS}/seed-{{seed}}/{{checkpoint}}/checkpoint.json",
    output:
        f"{RESULTS}/seed-{{seed}}/{{checkpoint}}/metrics.json",
    log:
        f"{LOGS}/seed-{{seed}}/{{checkpoint}}/evaluate_network.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{checkpoint}}/evaluate_network.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: config["compute"]["threads"]
    params:
        code=stage_digest("evaluate_network"),
        batch_size=config["features"]["batch_size"],
        device=config["compute"]["device"],
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.evaluate_network"
        " --network {input.network}"
        " --card {input.card}"
        " --tables {input.tables}"
        " --images {input.images}"
        " --batch-size {params.batch_size}"
        " --device {params.device}"
        " --threads {params.n_threads}"
        " --output {output}"
        " 2>&1 | tee {log}"


rule collect_metrics:
    input:
        metrics=all_epochs("metrics.json"),
        network=last_network,
    output:
        metrics=f"{METHOD_RUN}/metrics.parquet",
        network=f"{METHOD_RUN}/network.safetensors",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/collect_metrics.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/collect_metrics.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("collect_metrics"),
    shell:
        "python -m stages.collect_metrics"
        " --metrics {input.metrics}"
        " --network {input.network}"
        " --output-metrics {output.metrics}"
        " --output-network {output.network}"
        " 2>&1 | tee {log}"

# What leaves the project: the final networks as ONNX, and their model cards. snakemake --cores all export


localrules:
    export,


rule export:
    input:
        exports(existing=False),


rule export_network:
    input:
        network=f"{METHOD_RUN}/network.safetensors",
        tables=expand(f"{DATA}/test.parquet", dataset=DATASETS),
        images=expand(f"{DATA}/test.npy", dataset=DATASETS),
    output:
        model=f"{METHOD_RUN}/network.onnx",
        report=f"{METHOD_RUN}/export.json",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/export_network.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/export_network.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: config["compute"]["threads"]
    params:
        code=stage_digest("export_network"),
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.export_network"
        " --network {input.network}"
        " --tables {input.tables}"
        " --images {input.images}"
        " --threads {params.n_threads}"
        " --output-model {output.model}"
        " --output-report {output.report}"
        " 2>&1 | tee {log}"


rule write_model_card:
    input:
        network=f"{METHOD_RUN}/network.safetensors",
        export=f"{METHOD_RUN}/export.json",
        tables=expand(f"{DATA}/{{split}}.parquet", dataset=DATASETS, split=SPLITS),
        metrics=lambda wildcards: list(card_metrics(wildcards).values()),
        card=lambda wildcards: last_network(wildcards).replace("network.safetensors", "checkpoint.json"),
    output:
        f"{METHOD_RUN}/model_card.md",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/write_model_card.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/write_model_card.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("write_model_card"),
        metrics=lambda wildcards: [f"{seed}={path}" for seed, path in card_metrics(wildcards).items()],
        method=lambda wildcards: json.dumps({"name": wildcards.method, **METHODS[wildcards.method]}),
        settings=json.dumps(card_settings()),
    shell:
        "python -m stages.write_model_card"
        " --network {input.network}"
        " --card {input.card}"
        " --export {input.export}"
        " --tables {input.tables}"
        " --metrics {params.metrics}"
        " --seed {wildcards.seed}"
        " --method {params.method:q}"
        " --settings {params.settings:q}"
        " --output {output}"
        " 2>&1 | tee {log}"

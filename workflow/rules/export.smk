# What leaves the project: the final networks as ONNX, and their model cards. snakemake --cores all export


localrules:
    export,


rule export:
    input:
        PLAN.exports(),


rule export_network:
    input:
        **prepared(PLAN.datasets, "test"),
        metrics="<run>/metrics.parquet",
        network="<run>/network.safetensors",
    output:
        model="<run>/network.onnx",
        report="<run>/export.json",
    log:
        "<run_logs>/export_network.log",
    benchmark:
        "<run_logs>/export_network.benchmark.tsv"
    threads: config["compute"]["threads"]
    resources:
        **ask("export_network"),
    params:
        code=identify("report.export_network"),
        order=PLAN.datasets,
        n_threads=config["compute"]["threads"],
    shell:
        command(
            "python -m stages.report.export_network"
            " --network {input.network}"
            " --metrics {input.metrics}"
            " --tables {input.tables}"
            " --images {input.images}"
            " --threads {params.n_threads}"
            " --output-model {output.model}"
            " --output-report {output.report}",
        )


rule write_model_card:
    input:
        network="<run>/network.safetensors",
        export="<run>/export.json",
        tables=prepared(PLAN.datasets, *SPLITS)["tables"],
        metrics=lambda wildcards: list(PLAN.card_metrics(wildcards.seed, wildcards.method).values()),
        cards=files_of_checkpoints("checkpoint.json"),
    output:
        "<run>/model_card.md",
    log:
        "<run_logs>/write_model_card.log",
    benchmark:
        "<run_logs>/write_model_card.benchmark.tsv"
    threads: 1
    resources:
        **ask("write_model_card"),
    params:
        template=digest_contents([BASE / "stages/report/model_card.md.jinja"], CONTENTS),
        code=identify("report.write_model_card", *sorted({reader_of(dataset) for dataset in DATASETS})),
        metrics=lambda wildcards: [
            f"{seed}={path}" for seed, path in PLAN.card_metrics(wildcards.seed, wildcards.method).items()
        ],
        method=lambda wildcards: json.dumps({"name": wildcards.method, **METHODS[wildcards.method]}),
        settings=json.dumps(PLAN.card_settings()),
    shell:
        command(
            "python -m stages.report.write_model_card"
            " --network {input.network}"
            " --cards {input.cards}"
            " --export {input.export}"
            " --tables {input.tables}"
            " --metrics {params.metrics}"
            " --seed {wildcards.seed}"
            " --method {params.method:q}"
            " --settings {params.settings:q}"
            " --output {output}",
        )

# What leaves the project: the final networks as ONNX, and their model cards. snakemake --cores all export


localrules:
    export,


def exports(*, existing):
    """The exports of all runs of the experiment, or those of them that were made before."""
    names = ("network.onnx", "model_card.md")
    runs = [PLAN.locate("run", seed=seed, method=method) for method, seed in PLAN.own_runs]
    paths = [f"{run}/{name}" for run in runs for name in names]
    return [path for path in paths if Path(path).exists()] if existing else paths


def card_settings():
    """The settings that a network depends on, for its model card; where files lie is none of its business."""
    sections = ("experiment", "seeds", "images", "network", "training", "features", "density", "mixture", "transport")
    settings = {name: config[name] for name in (*sections, "labels")}
    settings["datasets"] = {
        name: {key: value for key, value in dataset.items() if key not in ("path", "images")}
        for name, dataset in DATASETS.items()
    }
    if is_file(config["network"]["pretrained"]):
        settings["network"] = config["network"] | {"pretrained": Path(config["network"]["pretrained"]).name}
    return settings


def card_metrics(wildcards):
    """The metrics of all seeds of a method: the experiment's, and the card's own."""
    seeds = sorted({*SEEDS, int(wildcards.seed)})
    return {seed: f"{PLAN.locate('run', seed=seed, method=wildcards.method)}/metrics.parquet" for seed in seeds}


rule export:
    input:
        exports(existing=False),


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
    params:
        code=identify("report.export_network"),
        order=PLAN.datasets,
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.report.export_network"
        " --network {input.network}"
        " --metrics {input.metrics}"
        " --tables {input.tables}"
        " --images {input.images}"
        " --threads {params.n_threads}"
        " --output-model {output.model}"
        " --output-report {output.report}" + TEE


rule write_model_card:
    input:
        network="<run>/network.safetensors",
        export="<run>/export.json",
        tables=prepared(PLAN.datasets, *SPLITS)["tables"],
        metrics=lambda wildcards: list(card_metrics(wildcards).values()),
        cards=files_of_checkpoints("checkpoint.json"),
    output:
        "<run>/model_card.md",
    log:
        "<run_logs>/write_model_card.log",
    benchmark:
        "<run_logs>/write_model_card.benchmark.tsv"
    threads: 1
    params:
        code=identify("report.write_model_card", *sorted({reader_of(dataset) for dataset in DATASETS})),
        metrics=lambda wildcards: [f"{seed}={path}" for seed, path in card_metrics(wildcards).items()],
        method=lambda wildcards: json.dumps({"name": wildcards.method, **METHODS[wildcards.method]}),
        settings=json.dumps(card_settings()),
    shell:
        "python -m stages.report.write_model_card"
        " --network {input.network}"
        " --cards {input.cards}"
        " --export {input.export}"
        " --tables {input.tables}"
        " --metrics {params.metrics}"
        " --seed {wildcards.seed}"
        " --method {params.method:q}"
        " --settings {params.settings:q}"
        " --output {output}" + TEE

# Every training sample, to look at. snakemake --cores all explorer


localrules:
    explorer,


# What both stages are told beside the runs; where tables lie is a pattern, see stages/report/explorer/options.py.
SAMPLES_PARAMS = {
    "order": PLAN.datasets,
    "epochs": PLAN.last_epoch,
    # Functions, lest Snakemake puts wildcards into them.
    "augmented": lambda wildcards: PLAN.layout["augmented"],
    "features": lambda wildcards: f"{PLAN.layout['epoch']}/features/{{dataset}}.parquet",
}
SAMPLES_OPTIONS = (
    " --tables {input.tables}"
    " --images {input.images}"
    " --audits {input.audits}"
    " --epochs {params.epochs}"
    " --augmented {params.augmented:q}"
    " --features {params.features:q}"
)
OWN_METRICS = [f"{PLAN.locate('run', method=method, seed=seed)}/metrics.parquet" for method, seed in PLAN.own_runs]
EXPLORER_PARAMS = {
    **SAMPLES_PARAMS,
    "code": identify("report.export_explorer"),
    "page": digest_contents(sorted((BASE / "stages/report/explorer/static").iterdir()), CONTENTS),
    "experiment": config["experiment"],
    "runs": [f"{method}/{seed}" for method, seed in PLAN.own_runs],
    "metrics": [
        f"{method}/{seed}={PLAN.locate('run', method=method, seed=seed)}/metrics.parquet"
        for method, seed in PLAN.own_runs
    ],
    "n_threads": config["compute"]["threads"],
}
EXPLORER_COMMAND = (
    "python -m stages.report.export_explorer"
    " --experiment {params.experiment}"
    " --runs {params.runs}"
    " --metrics {params.metrics}"
    " --threads {params.n_threads}"
    " --output {output}"
) + SAMPLES_OPTIONS


rule explorer:
    input:
        "<results>/explorer",


rule export_explorer:
    input:
        unpack(lambda wildcards: what_runs_say(PLAN.own_runs)),
        metrics=OWN_METRICS,
    output:
        directory("<results>/explorer"),
    log:
        "<results_logs>/export_explorer.log",
    benchmark:
        "<results_logs>/export_explorer.benchmark.tsv"
    threads: config["compute"]["threads"]
    resources:
        **ask("export_explorer"),
    params:
        **EXPLORER_PARAMS,
    shell:
        command(EXPLORER_COMMAND)


# The same page with few samples, for the report, whose archive shall stay small.
rule sample_explorer:
    input:
        unpack(lambda wildcards: what_runs_say(PLAN.own_runs)),
        metrics=OWN_METRICS,
    output:
        report(
            directory(PLAN.report_explorer),
            category=CATEGORIES["samples"],
            subcategory="experiment",
            labels={"figure": "1 explorer"},
            caption="../report/samples/explorer.rst",
            htmlindex="index.html",
        ),
    log:
        "<results_logs>/report/sample_explorer.log",
    benchmark:
        "<results_logs>/report/sample_explorer.benchmark.tsv"
    threads: config["compute"]["threads"]
    resources:
        **ask("sample_explorer"),
    params:
        **EXPLORER_PARAMS,
    shell:
        command(EXPLORER_COMMAND, " --max-samples 5000 --max-embedded 0")


rule collect_samples:
    input:
        unpack(lambda wildcards: what_runs_say([(wildcards.method, int(wildcards.seed))])),
        metrics="<run>/metrics.parquet",
    output:
        "<run>/samples.parquet",
    log:
        "<run_logs>/collect_samples.log",
    benchmark:
        "<run_logs>/collect_samples.benchmark.tsv"
    threads: 1
    resources:
        **ask("collect_samples"),
    params:
        **SAMPLES_PARAMS,
        code=identify("report.collect_samples"),
    shell:
        command(
            "python -m stages.report.collect_samples"
            " --runs {wildcards.method}/{wildcards.seed}"
            " --output {output}",
            SAMPLES_OPTIONS,
        )

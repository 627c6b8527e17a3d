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
    " {params.limits}"
    " --output {output}"
) + SAMPLES_OPTIONS


rule explorer:
    input:
        "<results>/explorer",


# With all samples, and for the report, whose archive shall stay small, with few.
rule export_explorer:
    input:
        unpack(lambda wildcards: what_runs_say(PLAN.own_runs)),
        metrics=[f"{PLAN.locate('run', method=method, seed=seed)}/metrics.parquet" for method, seed in PLAN.own_runs],
    output:
        report(
            directory("<results>/{page}"),
            category=CATEGORIES["samples"],
            subcategory="experiment",
            labels={"figure": "1 explorer"},
            caption="../report/samples/explorer.rst",
            htmlindex="index.html",
        ),
    log:
        "<results_logs>/{page}/export_explorer.log",
    benchmark:
        "<results_logs>/{page}/export_explorer.benchmark.tsv"
    wildcard_constraints:
        page="explorer|report/explorer",
    threads: config["compute"]["threads"]
    resources:
        **ask("export_explorer"),
    params:
        **EXPLORER_PARAMS,
        limits=lambda wildcards: "--max-samples 5000 --max-embedded 0" if wildcards.page.startswith("report") else "",
    shell:
        command(EXPLORER_COMMAND)


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

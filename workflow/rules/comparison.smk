# All methods of an experiment side by side, its timing, and all experiments in one table.
from glob import glob

COMPARED_RUNS = {
    f"{method}/{seed}": f"{PLAN.locate('run', method=method, seed=seed)}/metrics.parquet"
    for method in PLAN.compared_methods
    for seed in PLAN.compared_seeds
}


localrules:
    comparison,


rule comparison:
    input:
        "<results>/comparison.md",
        "<results>/timing.md",
        "results/comparison.md",


rule compare_methods:
    input:
        runs=list(COMPARED_RUNS.values()),
        tables=prepared(PLAN.datasets, *SPLITS)["tables"],
    output:
        table="<results>/comparison.parquet",
        csv="<results>/comparison.csv",
        markdown="<results>/comparison.md",
        figure="<results>/comparison.svg",
    log:
        "<results_logs>/compare_methods.log",
    benchmark:
        "<results_logs>/compare_methods.benchmark.tsv"
    threads: 1
    resources:
        **ask("compare_methods"),
    params:
        code=identify("report.compare_methods"),
        experiment=config["experiment"],
        runs=[f"{run}={path}" for run, path in COMPARED_RUNS.items()],
        paper_names=json.dumps({name: METHODS[name]["paper_name"] for name in PLAN.compared_methods}),
        reference=config["comparison"]["reference"],
        last_epochs=config["comparison"]["last_epochs"],
        logs=untracked(PLAN.layout["results_logs"]),
    shell:
        command(
            "python -m stages.report.compare_methods"
            " --runs {params.runs}"
            " --tables {input.tables}"
            " --paper-names {params.paper_names:q}"
            " --experiment {params.experiment}"
            " --reference {params.reference}"
            " --last-epochs {params.last_epochs}"
            " --logs {params.logs}"
            " --output-table {output.table}"
            " --output-csv {output.csv}"
            " --output-markdown {output.markdown}"
            " --output-figure {output.figure}",
        )


rule tabulate_experiments:
    input:
        # The other experiments as they are: they have configs of their own.
        sorted({*glob("results/*/comparison.parquet"), f"{PLAN.layout['results']}/comparison.parquet"}),
    output:
        csv="results/comparison.csv",
        markdown="results/comparison.md",
    log:
        "<results_logs>/tabulate_experiments.log",
    benchmark:
        "<results_logs>/tabulate_experiments.benchmark.tsv"
    threads: 1
    resources:
        **ask("tabulate_experiments"),
    params:
        code=identify("report.tabulate_experiments"),
        paper_names=json.dumps({name: row["paper_name"] for name, row in METHODS.items()}),
    shell:
        command(
            "python -m stages.report.tabulate_experiments"
            " --comparisons {input}"
            " --paper-names {params.paper_names:q}"
            " --epoch validation"
            " --output-csv {output.csv}"
            " --output-markdown {output.markdown}",
        )


# The runs are not read: their benchmark files lie beside their logs, and are there once they are.
rule sum_benchmarks:
    input:
        list(COMPARED_RUNS.values()),
    output:
        "<results>/timing.md",
    log:
        "<results_logs>/sum_benchmarks.log",
    benchmark:
        "<results_logs>/sum_benchmarks.benchmark.tsv"
    threads: 1
    resources:
        **ask("sum_benchmarks"),
    params:
        code=identify("report.sum_benchmarks"),
        logs=untracked(PLAN.layout["results_logs"]),
        epochs=PLAN.last_epoch,
    shell:
        command(
            "python -m stages.report.sum_benchmarks"
            " --logs {params.logs}"
            " --epochs {params.epochs}"
            " --output {output}",
        )

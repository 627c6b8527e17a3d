# All methods of an experiment side by side, its timing, and all experiments in one table.
from glob import glob

COMPARED_RUNS = {
    f"{method}/{seed}": f"{METHOD_RUN}/metrics.parquet".format(method=method, seed=seed)
    for method in config["comparison"]["methods"]
    for seed in config["comparison"]["seeds"]
}


localrules:
    comparison,


rule comparison:
    input:
        f"{RESULTS}/comparison.md",
        f"{RESULTS}/timing.md",
        "results/comparison.md",


rule compare_methods:
    input:
        list(COMPARED_RUNS.values()),
    output:
        table=f"{RESULTS}/comparison.parquet",
        csv=f"{RESULTS}/comparison.csv",
        markdown=f"{RESULTS}/comparison.md",
        figure=f"{RESULTS}/comparison.svg",
    log:
        f"{LOGS}/compare_methods.log",
    benchmark:
        f"{LOGS}/compare_methods.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("compare_methods"),
        experiment=config["experiment"],
        runs=[f"{run}={path}" for run, path in COMPARED_RUNS.items()],
        paper_names=json.dumps({name: METHODS[name]["paper_name"] for name in config["comparison"]["methods"]}),
        reference=config["comparison"]["reference"],
        last_epochs=config["comparison"]["last_epochs"],
        logs=untracked(LOGS),
    shell:
        "python -m stages.compare_methods"
        " --runs {params.runs}"
        " --paper-names {params.paper_names:q}"
        " --experiment {params.experiment}"
        " --reference {params.reference}"
        " --last-epochs {params.last_epochs}"
        " --logs {params.logs}"
        " --output-table {output.table}"
        " --output-csv {output.csv}"
        " --output-markdown {output.markdown}"
        " --output-figure {output.figure}"
        " 2>&1 | tee {log}"


rule tabulate_experiments:
    input:
        # The other experiments as they are: they have configs of their own.
        sorted({*glob("results/*/comparison.parquet"), f"{RESULTS}/comparison.parquet"}),
    output:
        csv="results/comparison.csv",
        markdown="results/comparison.md",
    log:
        f"{LOGS}/tabulate_experiments.log",
    benchmark:
        f"{LOGS}/tabulate_experiments.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("tabulate_experiments"),
        paper_names=json.dumps({name: row["paper_name"] for name, row in METHODS.items()}),
    shell:
        "python -m stages.tabulate_experiments"
        " --comparisons {input}"
        " --paper-names {params.paper_names:q}"
        " --epoch validation"
        " --output-csv {output.csv}"
        " --output-markdown {output.markdown}"
        " 2>&1 | tee {log}"


# The runs are not read: their benchmark files lie beside their logs, and are there once they are.
rule sum_benchmarks:
    input:
        list(COMPARED_RUNS.values()),
    output:
        f"{RESULTS}/timing.md",
    log:
        f"{LOGS}/sum_benchmarks.log",
    benchmark:
        f"{LOGS}/sum_benchmarks.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("sum_benchmarks"),
        logs=untracked(LOGS),
    shell:
        "python -m stages.sum_benchmarks" " --logs {params.logs}" " --output {output}" " 2>&1 | tee {log}"

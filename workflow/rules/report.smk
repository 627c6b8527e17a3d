# The report: figures and tables of the runs, of what was compared and of the data. snakemake --cores all report


localrules:
    report,


rule report:
    input:
        PLAN.report(compared=COMPARED[0].exists()),


rule draw_overview:
    input:
        tables=prepared(PLAN.datasets, *SPLITS)["tables"],
        images=prepared(PLAN.datasets, "train")["images"],
        runs=[f"{PLAN.locate('run', method=method, seed=seed)}/metrics.parquet" for method, seed in PLAN.own_runs],
    output:
        datasets=picture(f"{EXPERIMENT_REPORT}/overview/datasets.html", "overview", "1 datasets"),
        balance=picture(f"{EXPERIMENT_REPORT}/overview/balance.svg", "overview", "2 class balance"),
        images=picture(f"{EXPERIMENT_REPORT}/overview/images.svg", "overview", "3 images"),
        runs=picture(f"{EXPERIMENT_REPORT}/overview/runs.html", "overview", "4 runs and settings"),
        times=picture(f"{EXPERIMENT_REPORT}/overview/times.svg", "overview", "5 time and disk"),
        record=f"{EXPERIMENT_REPORT}/overview/figures.json",
    log:
        "<results_logs>/report/draw_overview.log",
    benchmark:
        "<results_logs>/report/draw_overview.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_overview"),
    params:
        code=identify("report.draw_overview"),
        images=[f"{name}={PLAN.locate('data', dataset=name)}/train.npy" for name in PLAN.datasets],
        runs=[
            f"{method}/{seed}={PLAN.locate('run', method=method, seed=seed)}/metrics.parquet"
            for method, seed in PLAN.own_runs
        ],
        paper_names=json.dumps({method: METHODS[method]["paper_name"] for method in config["methods"]}),
        audited=json.dumps({dataset: PLAN.audited_tasks(dataset) for dataset in PLAN.datasets}),
        settings=json.dumps(PLAN.card_settings()),
        results=untracked(PLAN.layout["results"]),
        logs=untracked(PLAN.layout["results_logs"]),
        epochs=PLAN.last_epoch,
    shell:
        command(
            "python -m stages.report.draw_overview"
            " --tables {input.tables}"
            " --images {params.images}"
            " --runs {params.runs}"
            " --paper-names {params.paper_names:q}"
            " --audited {params.audited:q}"
            " --settings {params.settings:q}"
            " --results {params.results}"
            " --logs {params.logs}"
            " --epochs {params.epochs}"
            " --output-datasets {output.datasets}"
            " --output-balance {output.balance}"
            " --output-images {output.images}"
            " --output-runs {output.runs}"
            " --output-times {output.times}"
            " --output-record {output.record}",
        )


rule draw_training:
    input:
        metrics="<run>/metrics.parquet",
        evaluations=files_of_checkpoints("metrics.json"),
        cards=files_of_checkpoints("checkpoint.json"),
    output:
        scores=picture(f"{RUN_REPORT}/training/scores.svg", "training", "1 accuracy and macro-F1"),
        losses=picture(f"{RUN_REPORT}/training/losses.svg", "training", "2 losses"),
        confusion=picture(f"{RUN_REPORT}/training/confusion.svg", "training", "3 confusion"),
        record=f"{RUN_REPORT}/training/figures.json",
    log:
        "<results_logs>/report/seed-{seed}/{method}/draw_training.log",
    benchmark:
        "<results_logs>/report/seed-{seed}/{method}/draw_training.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_training"),
    params:
        code=identify("report.draw_training"),
    shell:
        command(
            "python -m stages.report.draw_training"
            " --metrics {input.metrics}"
            " --evaluations {input.evaluations}"
            " --cards {input.cards}"
            " --output-scores {output.scores}"
            " --output-losses {output.losses}"
            " --output-confusion {output.confusion}"
            " --output-record {output.record}",
        )


# The networks are not inputs: those that were thinned out shall not be trained again.
rule draw_cross_stitch:
    input:
        "<run>/metrics.parquet",
        cards=files_of_checkpoints("checkpoint.json"),
    output:
        figure=picture(f"{RUN_REPORT}/cross_stitch/cross_stitch.svg", "training", "4 cross-stitch unit"),
        record=f"{RUN_REPORT}/cross_stitch/figures.json",
    log:
        "<results_logs>/report/seed-{seed}/{method}/draw_cross_stitch.log",
    benchmark:
        "<results_logs>/report/seed-{seed}/{method}/draw_cross_stitch.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_cross_stitch"),
    params:
        code=identify("report.draw_cross_stitch"),
    shell:
        command(
            "python -m stages.report.draw_cross_stitch"
            " --cards {input.cards}"
            " --output {output.figure}"
            " --output-record {output.record}",
        )


rule draw_weights:
    input:
        weights=files_of_pair("weights.parquet", weighed_epochs),
    output:
        distributions=picture(f"{pair_folder('weights')}/distributions.svg", "weights", "1 distributions by epoch"),
        classes=picture(f"{pair_folder('weights')}/classes.svg", "weights", "2 by class"),
        flips=picture(f"{pair_folder('weights')}/flips.svg", "weights", "3 pseudo labels and flips"),
        record=f"{pair_folder('weights')}/figures.json",
    log:
        f"{PAIR_LOGS}/draw_weights.log",
    benchmark:
        f"{PAIR_LOGS}/draw_weights.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_weights"),
    params:
        code=identify("report.draw_weights"),
        epochs=weighed_epochs,
    shell:
        command(
            "python -m stages.report.draw_weights"
            " --weights {input.weights}"
            " --epochs {params.epochs}"
            " --output-distributions {output.distributions}"
            " --output-classes {output.classes}"
            " --output-flips {output.flips}"
            " --output-record {output.record}",
        )


rule draw_truth:
    input:
        weights=files_of_pair("weights.parquet", weighed_epochs),
        audit="<data>/audit/train.parquet",
    output:
        ranks=picture(f"{pair_folder('truth')}/ranks.svg", "truth", "1 by fifth and decile"),
        epochs=picture(f"{pair_folder('truth')}/epochs.svg", "truth", "2 over epochs, and section L"),
        reliability=picture(f"{pair_folder('truth')}/reliability.svg", "truth", "3 reliability of the confidence"),
        record=f"{pair_folder('truth')}/figures.json",
    log:
        f"{PAIR_LOGS}/draw_truth.log",
    benchmark:
        f"{PAIR_LOGS}/draw_truth.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_truth"),
    params:
        code=identify("report.draw_truth"),
        epochs=weighed_epochs,
    shell:
        command(
            "python -m stages.report.draw_truth"
            " --task {wildcards.task}"
            " --weights {input.weights}"
            " --epochs {params.epochs}"
            " --audit-table {input.audit}"
            " --output-ranks {output.ranks}"
            " --output-epochs {output.epochs}"
            " --output-reliability {output.reliability}"
            " --output-record {output.record}",
        )


rule draw_domains:
    input:
        unlabeled=files_of_pair("mixture/unlabeled.parquet", weighed_epochs),
        labeled=files_of_pair("mixture/labeled.parquet", weighed_epochs),
        transport=files_of_pair("transport.parquet", weighed_epochs),
    output:
        mixtures=picture(f"{pair_folder('domains')}/mixtures.svg", "domains", "3 clusters, distances, flow"),
        distances=picture(f"{pair_folder('domains')}/distances.svg", "domains", "4 distances over epochs"),
        record=f"{pair_folder('domains')}/figures.json",
    log:
        f"{PAIR_LOGS}/draw_domains.log",
    benchmark:
        f"{PAIR_LOGS}/draw_domains.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_domains"),
    params:
        code=identify("report.draw_domains"),
        epochs=weighed_epochs,
        names=name_domains,
    shell:
        command(
            "python -m stages.report.draw_domains"
            " --unlabeled {input.unlabeled}"
            " --labeled {input.labeled}"
            " --transport {input.transport}"
            " --epochs {params.epochs}"
            " --names {params.names:q}"
            " --output-mixtures {output.mixtures}"
            " --output-distances {output.distances}"
            " --output-record {output.record}",
        )


rule draw_map:
    input:
        weights=files_of_pair("weights.parquet", end_epochs),
        unlabeled=features_at_ends(lambda wildcards: [wildcards.dataset]),
        labeled=features_at_ends(lambda wildcards: PLAN.datasets_of(wildcards.task)),
        audit=held_back,
    output:
        map=picture(f"{pair_folder('map')}/map.svg", "domains", "1 map of both domains (Figure 2)"),
        discrepancy=picture(f"{pair_folder('map')}/discrepancy.svg", "domains", "2 discrepancy (section L)"),
        record=f"{pair_folder('map')}/figures.json",
    log:
        f"{PAIR_LOGS}/draw_map.log",
    benchmark:
        f"{PAIR_LOGS}/draw_map.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_map"),
    params:
        code=identify("report.draw_map"),
        epochs=end_epochs,
        names=name_domains,
        audit=audit_option,
    shell:
        command(
            "python -m stages.report.draw_map"
            " --task {wildcards.task}"
            " --weights {input.weights}"
            " --epochs {params.epochs}"
            " --unlabeled {input.unlabeled}"
            " --labeled {input.labeled}"
            " {params.audit}"
            " --names {params.names:q}"
            " --seed {wildcards.seed}"
            " --output-map {output.map}"
            " --output-discrepancy {output.discrepancy}"
            " --output-record {output.record}",
        )


rule draw_samples:
    input:
        weights=files_of_pair("weights.parquet", end_epochs),
        table="<data>/train.parquet",
        images="<data>/train.npy",
        audit=held_back,
    output:
        first=picture(f"{pair_folder('samples')}/first_epoch.svg", "samples", "1 first epoch (Figure 3)"),
        last=picture(f"{pair_folder('samples')}/last_epoch.svg", "samples", "2 last epoch (Figure 3)"),
        record=f"{pair_folder('samples')}/figures.json",
    log:
        f"{PAIR_LOGS}/draw_samples.log",
    benchmark:
        f"{PAIR_LOGS}/draw_samples.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_samples"),
    params:
        code=identify("report.draw_samples"),
        epochs=end_epochs,
        audit=audit_option,
    shell:
        command(
            "python -m stages.report.draw_samples"
            " --task {wildcards.task}"
            " --weights {input.weights}"
            " --epochs {params.epochs}"
            " --table {input.table}"
            " --images {input.images}"
            " {params.audit}"
            " --output-first {output.first}"
            " --output-last {output.last}"
            " --output-record {output.record}",
        )


# A comparison that is there is shown as it is: a report shall not train dozens of runs anew.
rule draw_comparison:
    input:
        [str(path) for path in COMPARED if not path.exists()],
    output:
        tables=picture(f"{EXPERIMENT_REPORT}/comparison/tables.html", "comparison", "1 tables 1 and 2"),
        curves=picture(f"{EXPERIMENT_REPORT}/comparison/curves.html", "comparison", "2 curves"),
        record=f"{EXPERIMENT_REPORT}/comparison/figures.json",
    log:
        "<results_logs>/report/draw_comparison.log",
    benchmark:
        "<results_logs>/report/draw_comparison.benchmark.tsv"
    threads: 1
    resources:
        **ask("draw_comparison"),
    params:
        code=identify("report.draw_comparison"),
        compared=[str(path) for path in COMPARED],
        contents=digest_contents(filter(Path.exists, COMPARED), CONTENTS),
        sources=json.dumps({task: DATASETS[PLAN.datasets_of(task)[0]]["source"] for task in PLAN.tasks}),
    shell:
        command(
            "python -m stages.report.draw_comparison"
            " --comparison {params.compared[0]}"
            " --curves {params.compared[1]}"
            " --sources {params.sources:q}"
            " --output-tables {output.tables}"
            " --output-curves {output.curves}"
            " --output-record {output.record}",
        )

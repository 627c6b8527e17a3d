# What the methods that MTL-SA is compared with put in the place of a step of the epoch.


# MMD² in the place of the earth mover's distance: only w^g (MMD).
rule measure_discrepancy:
    input:
        unlabeled=UNLABELED,
        labeled=LABELED,
        responsibilities="<augmented>/responsibilities.parquet",
    output:
        "<augmented>/discrepancy.parquet",
    log:
        "<augmented_logs>/measure_discrepancy.log",
    benchmark:
        "<augmented_logs>/measure_discrepancy.benchmark.tsv"
    threads: config["compute"]["threads"]
    resources:
        **ask("measure_discrepancy"),
    params:
        code=identify("baselines.measure_discrepancy"),
        order=lambda wildcards: PLAN.datasets_of(wildcards.task),
        decay=lambda wildcards: PLAN.decay(wildcards.method),
        n_threads=config["compute"]["threads"],
    shell:
        command(
            "python -m stages.baselines.measure_discrepancy"
            " --task {wildcards.task}"
            " --unlabeled {input.unlabeled}"
            " --labeled {input.labeled}"
            " --responsibilities {input.responsibilities}"
            " --decay {params.decay}"
            " --seed {wildcards.seed}"
            " --epoch {wildcards.epoch}"
            " --threads {params.n_threads}"
            " --output {output}",
        )


# Pseudo labels refined by a Markov random field: DCN-AP.
rule refine_labels:
    input:
        features=UNLABELED,
    output:
        "<augmented>/refinement.parquet",
    log:
        "<augmented_logs>/refine_labels.log",
    benchmark:
        "<augmented_logs>/refine_labels.benchmark.tsv"
    threads: ALL_CORES
    resources:
        **ask("refine_labels"),
    params:
        code=identify("baselines.refine_labels"),
        refinement=lambda wildcards: METHODS[wildcards.method]["refinement"],
    shell:
        command(
            "python -m stages.baselines.refine_labels"
            " --task {wildcards.task}"
            " --features {input.features}"
            " --strength {params.refinement[strength]}"
            " --neighbors {params.refinement[neighbors]}"
            " --threads {threads}"
            " --output {output}",
        )

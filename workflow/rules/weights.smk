# The ingredients of the weights: local density within the unlabeled dataset (supplementary G) and
# the distance of its clusters from the labeled one (supplementary H); and refined pseudo labels.


rule estimate_density:
    input:
        features=features_of(None),
    output:
        f"{TASK}/density.parquet",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/estimate_density.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/estimate_density.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: DENSITY_CORES
    params:
        code=stage_digest("estimate_density"),
        cutoff_quantile=config["density"]["cutoff_quantile"],
        device=untracked("cpu" if config["compute"]["device"] == "cpu" else "auto"),
    shell:
        "python -m stages.estimate_density"
        " --features {input.features}"
        " --task {wildcards.task}"
        " --cutoff-quantile {params.cutoff_quantile}"
        " --seed {wildcards.seed}"
        " --device {params.device}"
        " --threads {threads}"
        " --output {output}"
        " 2>&1 | tee {log}"


rule fit_mixture:
    input:
        unlabeled=features_of(None),
        labeled=labeled_features,
    output:
        unlabeled=f"{TASK}/mixture/unlabeled.parquet",
        labeled=f"{TASK}/mixture/labeled.parquet",
        responsibilities=disposable(f"{TASK}/responsibilities.parquet"),
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/fit_mixture.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/fit_mixture.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: config["compute"]["threads"]
    params:
        code=stage_digest("fit_mixture"),
        components=config["mixture"]["components"],
        covariance=config["mixture"]["covariance"],
        max_iterations=config["mixture"]["max_iterations"],
        tolerance=config["mixture"]["tolerance"],
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.fit_mixture"
        " --task {wildcards.task}"
        " --unlabeled {input.unlabeled}"
        " --labeled {input.labeled}"
        " --components {params.components}"
        " --covariance {params.covariance}"
        " --max-iterations {params.max_iterations}"
        " --tolerance {params.tolerance}"
        " --seed {wildcards.seed}"
        " --epoch {wildcards.epoch}"
        " --threads {params.n_threads}"
        " --output-unlabeled {output.unlabeled}"
        " --output-labeled {output.labeled}"
        " --output-responsibilities {output.responsibilities}"
        " 2>&1 | tee {log}"


rule weigh_distribution:
    input:
        unlabeled=f"{TASK}/mixture/unlabeled.parquet",
        labeled=f"{TASK}/mixture/labeled.parquet",
    output:
        f"{TASK}/transport.parquet",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/weigh_distribution.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/weigh_distribution.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("weigh_distribution"),
        ground_distance=config["transport"]["ground_distance"],
        decay=config["transport"]["decay"],
    shell:
        "python -m stages.weigh_distribution"
        " --unlabeled {input.unlabeled}"
        " --labeled {input.labeled}"
        " --ground-distance {params.ground_distance}"
        " --decay {params.decay}"
        " --output {output}"
        " 2>&1 | tee {log}"


rule measure_discrepancy:
    input:
        unlabeled=features_of(None),
        labeled=labeled_features,
        responsibilities=f"{TASK}/responsibilities.parquet",
    output:
        f"{TASK}/discrepancy.parquet",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/measure_discrepancy.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/measure_discrepancy.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: config["compute"]["threads"]
    params:
        code=stage_digest("measure_discrepancy"),
        decay=config["transport"]["decay"],
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.measure_discrepancy"
        " --task {wildcards.task}"
        " --unlabeled {input.unlabeled}"
        " --labeled {input.labeled}"
        " --responsibilities {input.responsibilities}"
        " --decay {params.decay}"
        " --seed {wildcards.seed}"
        " --epoch {wildcards.epoch}"
        " --threads {params.n_threads}"
        " --output {output}"
        " 2>&1 | tee {log}"


rule refine_labels:
    input:
        features=features_of(None),
    output:
        f"{TASK}/refinement.parquet",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/refine_labels.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/refine_labels.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: ALL_CORES
    params:
        code=stage_digest("refine_labels"),
        strength=method_setting("refinement", "strength", default=0),
        neighbors=method_setting("refinement", "neighbors", default=1),
    shell:
        "python -m stages.refine_labels"
        " --task {wildcards.task}"
        " --features {input.features}"
        " --strength {params.strength}"
        " --neighbors {params.neighbors}"
        " --threads {threads}"
        " --output {output}"
        " 2>&1 | tee {log}"

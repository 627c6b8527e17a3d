# From weights to the labels that an epoch trains on, and the check of those weights.


rule materialize_labels:
    input:
        unpack(selection_tables),
        features=features_of(None),
    output:
        weights=f"{TASK}/weights.parquet",
        labels=f"{TASK}/labels.parquet",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/materialize_labels.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/materialize_labels.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("materialize_labels"),
        tables=selection_options,
        selection=lambda wildcards: json.dumps(METHODS[wildcards.method]["selection"]),
        distance=method_setting("distance", default="emd"),
        temperature=label_setting("temperature"),
        interpolation=interpolation_of,
        quantile=quantile_of,
    shell:
        "python -m stages.materialize_labels"
        " --task {wildcards.task}"
        " --features {input.features}"
        " {params.tables}"
        " --selection {params.selection:q}"
        " --distance {params.distance}"
        " --temperature {params.temperature}"
        " --interpolation {params.interpolation}"
        " --quantile {params.quantile}"
        " --output-weights {output.weights}"
        " --output-labels {output.labels}"
        " 2>&1 | tee {log}"


# What label transfer networks say of each of the mixed datasets; it is taken as it is.
use rule materialize_labels as materialize_transferred_labels with:
    input:
        features=f"{EPOCH}/features/{{dataset}}.parquet",
    output:
        weights=f"{TASK}/{{dataset}}/weights.parquet",
        labels=f"{TASK}/{{dataset}}/labels.parquet",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/materialize_labels.{{dataset}}.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/materialize_labels.{{dataset}}.benchmark.tsv"
    wildcard_constraints:
        method="|".join(TRANSFER_METHODS),
    params:
        code=stage_digest("materialize_labels"),
        tables="",
        selection="0",
        distance="emd",
        temperature=1,
        interpolation="soft",
        quantile=0,


rule audit_weights:
    input:
        weights=f"{TASK}/weights.parquet",
        table=lambda wildcards: f"{DATA}/train.parquet".format(dataset=dataset_of_epoch(wildcards)),
    output:
        f"{TASK}/audit.parquet",
    log:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/audit_weights.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/{{method}}/epoch-{{epoch}}/{{task}}/audit_weights.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        code=stage_digest("audit_weights"),
    shell:
        "python -m stages.audit_weights"
        " --task {wildcards.task}"
        " --weights-table {input.weights}"
        " --table {input.table}"
        " --output {output}"
        " 2>&1 | tee {log}"

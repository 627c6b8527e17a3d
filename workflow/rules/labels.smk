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
        temperature=method_temperature,
    shell:
        "python -m stages.materialize_labels"
        " --task {wildcards.task}"
        " --features {input.features}"
        " {params.tables}"
        " --selection {params.selection:q}"
        " --temperature {params.temperature}"
        " --output-weights {output.weights}"
        " --output-labels {output.labels}"
        " 2>&1 | tee {log}"


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

# From a user's images to memory maps, manifests and labels held back.


# Where the data lies, and whether it may lie there, decides nothing.
READING_OPTIONS = (
    " --dataset {wildcards.dataset}"
    " --settings {params.settings:q}"
    " --data-root {params.data_root:q}"
    " --outside-data-root {params.outside}"
    " --splits {params.splits}"
)
READING = {
    "settings": untracked(lambda wildcards: json.dumps(DATASETS[wildcards.dataset])),
    "decisive_settings": lambda wildcards: decisive_settings(DATASETS[wildcards.dataset]),
    "data_root": untracked(config["data_root"]),
    "outside": untracked(config["images"]["outside_data_root"]),
    "splits": SPLITS,
}


rule prepare_images:
    output:
        tables=expand("<data>/{split}.parquet", split=SPLITS, allow_missing=True),
        images=expand("<data>/{split}.npy", split=SPLITS, allow_missing=True),
    log:
        "<data_logs>/prepare_images.log",
    benchmark:
        "<data_logs>/prepare_images.benchmark.tsv"
    threads: ALL_CORES
    resources:
        **ask("prepare_images"),
    params:
        **READING,
        identity=identify_images,
        place=lambda wildcards: place_images(DATASETS[wildcards.dataset]),
        conversion={name: config["images"][name] for name in ("height", "width", "channels", "fit", "max_pixels")},
        on_error=config["images"]["on_error"],
        cache=untracked(cache_options),
    shell:
        command(
            "python -m stages.data.prepare_images"
            " --height {params.conversion[height]}"
            " --width {params.conversion[width]}"
            " --channels {params.conversion[channels]}"
            " --fit {params.conversion[fit]}"
            " --max-pixels {params.conversion[max_pixels]}"
            " --on-error {params.on_error}"
            " --workers {threads}"
            " {params.cache}"
            " --tables {output.tables}"
            " --images {output.images}",
            READING_OPTIONS,
        )


# What is known and never trained on, for audits.
rule prepare_audit:
    input:
        expand("<data>/{split}.parquet", split=SPLITS, allow_missing=True),
    output:
        expand("<data>/audit/{split}.parquet", split=SPLITS, allow_missing=True),
    log:
        "<data_logs>/audit/prepare_audit.log",
    benchmark:
        "<data_logs>/audit/prepare_audit.benchmark.tsv"
    threads: 1
    resources:
        **ask("prepare_audit"),
    params:
        **READING,
        code=lambda wildcards: identify("data.prepare_audit", reader_of(wildcards.dataset)),
        labels=label_digests,
        audit=lambda wildcards: audit_settings(DATASETS[wildcards.dataset]),
    shell:
        command(
            "python -m stages.data.prepare_audit" " --tables {input}" " --outputs {output}",
            READING_OPTIONS,
        )

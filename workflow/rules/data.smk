# From a user's images to memory maps, manifests and labels held back.


def label_digests(wildcards):
    """Of the contents of a dataset's label files: another content redoes its images, another place does not."""
    files = list_label_files(DATASETS[wildcards.dataset], config["data_root"])
    return digest_contents(files, CONTENTS)


def reader_of(dataset):
    """The function that reads a dataset, which the stages find by its name only."""
    return f"stages.data.sources.{DATASETS[dataset]['source']}.read"


def identify_images(wildcards):
    """What decides a dataset's images beside its settings."""
    return [*identify("data.prepare_images", reader_of(wildcards.dataset)), *label_digests(wildcards)]


def cache_options(wildcards):
    """Where experiments share decoded images, and what identifies these."""
    if config["storage"]["image_cache"] is None:
        return ""
    identity = quote(" ".join(identify_images(wildcards)))
    return f"--cache {quote(config['storage']['image_cache'])} --identity {identity}"


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
    params:
        **READING,
        identity=identify_images,
        place=lambda wildcards: place_images(DATASETS[wildcards.dataset]),
        conversion={name: config["images"][name] for name in ("height", "width", "channels", "fit", "max_pixels")},
        on_error=config["images"]["on_error"],
        cache=untracked(cache_options),
    shell:
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
        " --images {output.images}" + READING_OPTIONS + TEE


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
    params:
        **READING,
        code=lambda wildcards: identify("data.prepare_audit", reader_of(wildcards.dataset)),
        labels=label_digests,
        audit=lambda wildcards: audit_settings(DATASETS[wildcards.dataset]),
    shell:
        "python -m stages.data.prepare_audit" " --tables {input}" " --outputs {output}" + READING_OPTIONS + TEE

# From a user's images to memory maps and manifests.


def label_digests(wildcards):
    """Of the contents of a dataset's label files: another content redoes its images, another place does not."""
    files = list_label_files(DATASETS[wildcards.dataset], config["data_root"])
    return digest_contents(files, CONTENTS)


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
        code=identify("prepare_images"),
        labels=label_digests,
        splits=SPLITS,
        settings=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]),
        data_root=untracked(config["data_root"]),
        conversion={name: config["images"][name] for name in ("height", "width", "channels", "fit", "max_pixels")},
        on_error=config["images"]["on_error"],
    shell:
        "python -m stages.prepare_images"
        " --dataset {wildcards.dataset}"
        " --settings {params.settings:q}"
        " --data-root {params.data_root:q}"
        " --height {params.conversion[height]}"
        " --width {params.conversion[width]}"
        " --channels {params.conversion[channels]}"
        " --fit {params.conversion[fit]}"
        " --max-pixels {params.conversion[max_pixels]}"
        " --on-error {params.on_error}"
        " --workers {threads}"
        " --splits {params.splits}"
        " --tables {output.tables}"
        " --images {output.images}" + TEE

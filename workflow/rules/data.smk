# From a user's images to memory maps and manifests.


rule prepare_images:
    output:
        tables=expand(f"{RESULTS}/data/{{{{dataset}}}}/{{split}}.parquet", split=SPLITS),
        images=expand(f"{RESULTS}/data/{{{{dataset}}}}/{{split}}.npy", split=SPLITS),
    log:
        f"{LOGS}/data/{{dataset}}/prepare_images.log",
    benchmark:
        f"{LOGS}/data/{{dataset}}/prepare_images.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: ALL_CORES
    params:
        code=stage_digest("prepare_images"),
        labels=label_digest,
        splits=SPLITS,
        settings=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]),
        data_root=untracked(config["data_root"]),
        height=config["images"]["height"],
        width=config["images"]["width"],
        channels=config["images"]["channels"],
        fit=config["images"]["fit"],
        on_error=config["images"]["on_error"],
        max_pixels=config["images"]["max_pixels"],
    shell:
        "python -m stages.prepare_images"
        " --dataset {wildcards.dataset}"
        " --settings {params.settings:q}"
        " --data-root {params.data_root:q}"
        " --height {params.height}"
        " --width {params.width}"
        " --channels {params.channels}"
        " --fit {params.fit}"
        " --on-error {params.on_error}"
        " --max-pixels {params.max_pixels}"
        " --workers {threads}"
        " --splits {params.splits}"
        " --tables {output.tables}"
        " --images {output.images}"
        " 2>&1 | tee {log}"

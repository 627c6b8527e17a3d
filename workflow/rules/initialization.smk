# Epoch 0: joint training, once per seed for all methods but single-task learning.


rule initialize_network:
    input:
        pretrained_file,
        **prepared(DATASETS, "train"),
    output:
        **checkpoint_files(INITIAL),
    log:
        f"{LOGS}/seed-{{seed}}/initial/initialize_network.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/initial/initialize_network.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: config["compute"]["threads"]
    params:
        code=stage_digest("initialize_network"),
        backbone=config["network"]["backbone"],
        pretrained=config["network"]["pretrained"] or "none",
        head_features=config["network"]["head_features"],
        cross_stitch_identity=config["network"]["cross_stitch_identity"],
        mean=config["images"]["mean"] or [],
        std=config["images"]["std"] or [],
        fit=config["images"]["fit"],
        separate=False,
        passes=config["training"]["initial_epochs"],
        batch_size=config["training"]["batch_size"],
        learning_rate=config["training"]["learning_rate"],
        augmentation=config["training"]["augmentation"],
        loader_workers=untracked(config["training"]["loader_workers"]),
        device=config["compute"]["device"],
        n_threads=config["compute"]["threads"],
    shell:
        "python -m stages.initialize_network"
        " --tables {input.tables}"
        " --images {input.images}"
        " --backbone {params.backbone}"
        " --pretrained {params.pretrained:q}"
        " --head-features {params.head_features}"
        " --cross-stitch-identity {params.cross_stitch_identity}"
        " --mean {params.mean}"
        " --std {params.std}"
        " --fit {params.fit}"
        " --separate {params.separate}"
        " --passes {params.passes}"
        " --batch-size {params.batch_size}"
        " --learning-rate {params.learning_rate}"
        " --loader-workers {params.loader_workers}"
        " --seed {wildcards.seed}"
        " --horizontal-flip {params.augmentation[horizontal_flip]}"
        " --shift {params.augmentation[shift]}"
        " --brightness {params.augmentation[brightness]}"
        " --contrast {params.augmentation[contrast]}"
        " --device {params.device}"
        " --threads {params.n_threads}"
        " --output-network {output.network}"
        " --output-optimizer {output.optimizer}"
        " --output-card {output.card}"
        " 2>&1 | tee {log}"


use rule initialize_network as initialize_separate_networks with:
    output:
        **checkpoint_files(INITIAL_SEPARATE),
    log:
        f"{LOGS}/seed-{{seed}}/initial_separate/initialize_network.log",
    benchmark:
        f"{LOGS}/seed-{{seed}}/initial_separate/initialize_network.benchmark.tsv"
    params:
        code=stage_digest("initialize_network"),
        backbone=config["network"]["backbone"],
        pretrained=config["network"]["pretrained"] or "none",
        head_features=config["network"]["head_features"],
        cross_stitch_identity=config["network"]["cross_stitch_identity"],
        mean=config["images"]["mean"] or [],
        std=config["images"]["std"] or [],
        fit=config["images"]["fit"],
        separate=True,
        passes=config["training"]["initial_epochs"],
        batch_size=config["training"]["batch_size"],
        learning_rate=config["training"]["learning_rate"],
        augmentation=config["training"]["augmentation"],
        loader_workers=untracked(config["training"]["loader_workers"]),
        device=config["compute"]["device"],
        n_threads=config["compute"]["threads"],

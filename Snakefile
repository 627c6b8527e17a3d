# MTL-SA: one network from image datasets that were each labelled for one task only.
# This page lists the parts in running order; config.yaml says what is trained on what.
from snakemake.utils import min_version

min_version("9.14")

# Only without --configfile: Snakemake would merge that file into this one, datasets and all.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/initialization.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/labels.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/comparison.smk"
include: "workflow/rules/export.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        expand(f"{METHOD_RUN}/metrics.parquet", seed=SEEDS, method=config["methods"]),
        # What was exported once shall not fall behind a network that was trained further.
        exports(existing=True),
        audit_tables(config["methods"], SEEDS),


onstart:
    run_check()
    start_servers()

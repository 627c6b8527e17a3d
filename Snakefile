# MTL-SA: one network from image datasets that were each labelled for one task only.
# This page lists the parts in running order; config.yaml says what is trained on what.
from pathlib import Path
from snakemake.utils import min_version

min_version("9.14")

# The current folder's, or the one beside this file. Only without --configfile: Snakemake would merge
# that file into this one, datasets and all.
CONFIG = Path("config.yaml") if Path("config.yaml").exists() else Path(workflow.basedir) / "config.yaml"
if not workflow.config_settings.configfiles:

    configfile: CONFIG


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/epoch.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/comparison.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/explorer.smk"


report: "workflow/report/report.rst"


localrules:
    all,
    verify,


rule all:
    default_target: True
    input:
        [f"{PLAN.locate('run', seed=seed, method=method)}/metrics.parquet" for method, seed in PLAN.own_runs],
        # What was exported or drawn once shall not fall behind a network that was trained further.
        filter(os.path.exists, [*PLAN.exports(), *PLAN.report(compared=True)]),
        PLAN.audits(),


# Whether all of it is there, whole and current; it says so anew each time.
rule verify:
    input:
        rules.all.input,
    log:
        "<results_logs>/verify.log",
    params:
        results=lambda wildcards: PLAN.layout["results"],
    shell:
        command("python -m stages.tools.verify_artifacts {params.results}")


for one in workflow.rules:
    if one.shellcmd:
        one.set_params(by_name=name_values(dict(one.params.items())))


# Stops a run before its first job where its data, its settings or the disk will not do.
onstart:
    begin_run(workflow, PLAN, LIBRARIES, BASE)

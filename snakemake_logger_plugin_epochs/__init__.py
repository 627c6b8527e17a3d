"""Where Snakemake looks for `--logger epochs`."""

from workflow.progress import EpochHandler as LogHandler

__all__ = ["LogHandler"]

import os
import signal
import sys

# Of a job of the workflow, which interrupts it to end it, and ignored until here. There is nothing to tidy up yet.
if "STAGE_RUN" in os.environ and sys.orig_argv[1:2] == ["-m"]:

    def _leave(*_: object) -> None:
        # Of processes that run a stage together, whoever started them says so.
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            print(f"{sys.orig_argv[2].rpartition('.')[2]}: interrupted", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGINT)

    signal.signal(signal.SIGINT, _leave)

# Of `python -m stages.<name>`, before any of its libraries is imported.
if "STAGE_SERVERS" in os.environ and sys.orig_argv[1:2] == ["-m"]:
    from stages.command.warm_start import hand_over

    hand_over()

import os
import sys

# Of `python -m stages.<name>`, before any of its libraries is imported.
if "STAGE_SERVERS" in os.environ and sys.orig_argv[1:2] == ["-m"]:
    from stages.command.warm_start import hand_over

    hand_over()

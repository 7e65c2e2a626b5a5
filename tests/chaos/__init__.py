"""`make chaos`: real processes are killed, cut off and frozen, and every message is accounted for.

`process` and `work` run in the workers, `stage` and `actors` start them, `storm` strikes, `checker`
compares what was committed with what arrived. `lies` shows that the checker would notice.
"""

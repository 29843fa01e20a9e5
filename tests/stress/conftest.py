import sys

# What the disk is made to refuse, and what is left of a run, is looked up in ways that Linux alone has.
if sys.platform != "linux":
    collect_ignore = [
        f"test_{name}.py" for name in ("audit", "chaos", "cluster", "endpoint", "ends", "soak", "witness")
    ]

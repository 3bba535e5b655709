"""Sizes and lengths of the runs. `minutes` are by the clock; `--minutes` changes them, and a run that resumes has what is left."""

CONFIGURATIONS = {
    "smoke": {
        "conductor": {"width": 32, "minutes": 0.05},
        "watcher": {"width": 16, "minutes": 0.1},
    },
    "cpu": {
        "conductor": {"width": 128, "minutes": 18},
        "watcher": {"width": 32, "minutes": 12},
    },
    "gpu": {
        "conductor": {"width": 128, "minutes": 1},
        "watcher": {"width": 64, "minutes": 2},
    },
}

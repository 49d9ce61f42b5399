"""Settings of the process that must be made before torch or Ray is imported."""

import ctypes
import os

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # with Ray's 2 s a fit waits 15 to 20 s in all
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",  # Ray lets a frozen worker hang for 600 s
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in trials as in runs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a sweep writes its own event log
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's 15 starves its workers on a shared machine
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads that spin halve training on a busy machine
    # memory of a step's activations is kept for the next step instead of being asked for anew,
    # which costs a tenth of a training step
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
"""Set unless the user has set them."""


def prepare_environment() -> None:
    """Set what the user has not; has no effect on libraries that are already loaded."""
    unset = SETTINGS.keys() - os.environ.keys()
    os.environ.update({name: SETTINGS[name] for name in unset})
    _set_malloc({name: int(SETTINGS[name]) for name in unset & _MALLOC.keys()})


_MALLOC = {"MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_TRIM_THRESHOLD_": -1}
"""Parameters of mallopt: the C library has read its variables before Python began."""


def _set_malloc(values: dict[str, int]) -> None:
    """Set what of these the C library of this process knows."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    for name, value in values.items():
        mallopt(_MALLOC[name], value)

"""Environment variables that must be set before torch or Ray is imported."""

import os

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # with Ray's 2 s a fit waits 15 to 20 s in all
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in trials as in runs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a sweep writes its own event log
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's 15 starves its workers on a shared machine
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads that spin halve training on a busy machine
}
"""Set unless the user has set them."""


def prepare_environment() -> None:
    """Set what the user has not; has no effect on libraries that are already loaded."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)

"""Trials in this process, one after the other: a debugger works, no cluster is needed."""

from typing import Any

from orchestrator.console import Console
from orchestrator.errors import Interrupted, LostWorkError, SelftrainError, StorageAwayError
from orchestrator.session import make_engine
from orchestrator.signals import StopRequest
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.display import SweepWatch
from orchestrator.sweep.trial import TrialPlayer
from orchestrator.tracking.process_log import span


def play_here(conductor: Conductor, console: Console, stop: StopRequest) -> None:
    """One trial after the other in this process."""
    watch = SweepWatch(console, stop)
    while (task := conductor.propose()) is not None:
        number = task.number
        engine = make_engine(task.configs[0].placement)

        def tell(name: str, *, number: int = number, **fields: Any) -> None:
            conductor.tell(number, name, **fields)

        try:
            with span("trial", trial=number):
                player = TrialPlayer(task.configs, engine, tell, watch)
                while conductor.heard(number, player.step()):
                    pass
        except (Interrupted, LostWorkError, StorageAwayError):
            raise  # the same command goes on with this trial
        except SelftrainError as error:
            conductor.failed(number, str(error))
        except Exception as error:  # noqa: BLE001 - a trial's fault ends the trial, not the sweep
            conductor.failed(number, f"{type(error).__name__}: {error}")
    if stop.asked():
        raise Interrupted("the sweep was stopped; finished steps and trials are kept")

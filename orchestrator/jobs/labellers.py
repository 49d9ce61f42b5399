"""Which labeller works on a labelling job."""

from typing import Protocol

from orchestrator.jobs.job import LabelJobs, PointLabelJob
from orchestrator.jobs.labelling import Labeller, ShardReport
from orchestrator.jobs.point_labelling import PointLabeller


class AnyLabeller(Protocol):
    """A process that labels fragments with one teacher."""

    def label(self, fragment: int) -> ShardReport:
        """Label one fragment and write its shard, unless an earlier attempt already did."""


def labeller_of(job: LabelJobs, device: str = "cpu") -> AnyLabeller:
    """The labeller of a job, its network loaded."""
    return PointLabeller(job, device) if isinstance(job, PointLabelJob) else Labeller(job, device)

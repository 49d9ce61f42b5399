"""Rows of a prepared table, which a pipeline other than ours may have written: ids and labels."""

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import DataError
from trainables.tasks.kinds import Classes, Points


def check_rows(table: pa.Table, task: Classes | Points, where: str) -> pa.Table:
    """The same table: every id stands once, every class is one of the task's.

    Raises:
        DataError: Names the first id that stands twice, or the first label that is no class.
    """
    if "example_id" in table.column_names:
        counted = pc.value_counts(table["example_id"])
        more = counted.filter(pc.greater(counted.field("counts"), 1))
        if len(more):
            raise DataError(
                f"{where} holds the id {more[0]['values'].as_py()!r} {more[0]['counts']} times: "
                "every row needs an id of its own; prepare the data again"
            )
    if isinstance(task, Classes) and "label" in table.column_names:
        labels = table["label"]
        wrong = pc.or_(pc.less(labels, 0), pc.greater_equal(labels, task.num_names))
        if (at := pc.index(wrong, True).as_py()) >= 0:
            raise DataError(
                f"{where} row {at} has the label {labels[at]}: labels are 0 to "
                f"{task.num_names - 1}, the places of the classes in dataset.json"
            )
    return table

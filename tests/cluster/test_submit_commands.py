"""`selftrain submit --dry-run` in all four places, and what is refused before anything starts."""

from pathlib import Path

import pytest
import yaml

from cluster.records import RECORD, save_launch
from orchestrator.data.dataset import Dataset
from orchestrator.launch import Launch, LaunchRecord
from orchestrator.runs import run_id

IMAGE = {"image": "team/selftrain:1"}


@pytest.fixture
def dry(selftrain, write, capsys):
    """What a dry run prints, and its exit code."""

    def run(place: str, config, *options: str, verb: str = "run", **launch: object):
        code = selftrain(
            "submit", "--to", place, verb, write(config, **launch), *options, "--dry-run"
        )
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def no_commands(monkeypatch, tmp_path) -> None:
    """A host without kubectl and Slurm."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.mark.parametrize("place", ["ray", "kuberay", "slurm", "local"])
def test_every_place_is_shown_the_same_run_and_nothing_is_started(dry, make_config, place):
    config = make_config("placement.engine=ray")
    code, text = dry(place, config, kuberay=IMAGE)
    assert code == 0, text
    assert run_id(config, Dataset(config.data)) in text
    assert "-m orchestrator run " in text
    assert not config.runs.exists()


def test_the_launch_block_changes_no_identity(make_config):
    plain = make_config()
    launched = make_config("launch={grace_s: 300, shared: /mnt, ray: {driver_cpus: 1}}")
    data = Dataset(plain.data)
    assert run_id(plain, data) == run_id(launched, data)


def test_a_ray_job_shows_its_entrypoint_environment_and_the_size_of_the_copy(
    dry, make_config, monkeypatch, tmp_path
):
    (tmp_path / "weights.bin").write_bytes(b"x" * 4321)
    monkeypatch.setenv("MY_MODE", "canary-in-the-mine")
    code, text = dry("ray", make_config(), "--set", "recipe.seed=3", env=["MY_MODE"], grace_s=77)
    assert code == 0
    assert "-m orchestrator run quick.yaml --set recipe.seed=3" in text
    assert '"RAY_JOB_STOP_WAIT_TIME_S": "77"' in text
    assert '"MY_MODE": "(its value here)"' in text
    assert "canary" not in text
    assert '"entrypoint_num_gpus": 0' in text
    assert "4,321  weights.bin" in text


@pytest.mark.parametrize(("workers", "told"), [(0, True), (1, False)])
def test_a_driver_that_would_train_on_the_head_is_told_of(dry, make_config, workers, told):
    config = make_config("placement.engine=ray", f"placement.train_workers={workers}")
    assert ("the driver trains" in dry("ray", config)[1]) is told


def test_relative_paths_lie_below_the_shared_folder_there(dry, make_config, tmp_path, digits):
    (tmp_path / "digits").symlink_to(digits)
    config = make_config("data=digits", "store=s", "runs=r")
    code, text = dry("ray", config, shared="/mnt/team")
    assert code == 0
    for change in ("data=/mnt/team/digits", "store=/mnt/team/s", "runs=/mnt/team/r"):
        assert f"--set {change}" in text


@pytest.mark.parametrize("place", ["ray", "kuberay"])
def test_relative_paths_that_would_be_lost_there_are_refused(dry, make_config, place):
    code, text = dry(place, make_config("store=s", "placement.engine=ray"), kuberay=IMAGE)
    assert code == 2
    assert "store: s would be lost there" in text and "launch.shared" in text


@pytest.mark.parametrize(
    ("place", "changes", "launch", "fault"),
    [
        ("ray", ["placement.ray_address=ray://h:1"], {}, "placement.ray_address is ray://h:1"),
        ("ray", ["placement.use_gpu=true"], {}, "set placement.train_workers to 1 or more"),
        ("ray", [], {"env": ["NOT_SET_ANYWHERE"]}, "not set here: NOT_SET_ANYWHERE"),
        ("ray", [], {"env": ["WANDB_API_KEY"]}, "shows its variables to everyone"),
        ("ray", [], {"working_dir": "/usr/share"}, "lies outside of launch.working_dir"),
        ("ray", [], {"exclude": ["*.yaml"]}, "quick.yaml isn't among the files"),
        ("slurm", [], {"grace_s": 3600, "slurm": {"limit_s": 600}}, "launch.slurm.limit_s"),
        ("kuberay", [], {}, "launch.kuberay.image is required"),
        ("kuberay", [], {"kuberay": IMAGE, "env": ["HOME"]}, "kubectl create secret"),
        ("kuberay", [], {"kuberay": IMAGE | {"claim": "team"}}, "every pod mounts the claim"),
        (
            "kuberay",
            ["placement.engine=ray", "placement.train_workers=9"],
            {"kuberay": IMAGE},
            "have 4 CPUs, the run needs 9",
        ),
        (
            "kuberay",
            ["placement.engine=ray", "placement.train_workers=2", "placement.use_gpu=true"],
            {"kuberay": IMAGE},
            "have 0 GPUs, the run needs 2",
        ),
    ],
)
def test_what_could_not_run_there_is_refused_with_what_to_change(
    dry, make_config, monkeypatch, place, changes, launch, fault
):
    monkeypatch.setenv("WANDB_API_KEY", "canary-in-the-mine")
    code, text = dry(place, make_config(*changes), **launch)
    assert (code, fault in text) == (2, True), text


def test_all_faults_of_a_launch_file_are_told_with_the_nearest_name(dry, make_config, tmp_path):
    file = tmp_path / "team.yaml"
    file.write_text(yaml.safe_dump({"grace": 5, "slurm": {"nodes": 0}}))
    code, text = dry("slurm", make_config(), "--launch", str(file))
    assert code == 2
    assert "2 faults" in text and "did you mean 'grace_s'?" in text
    assert "slurm.nodes" in text


def test_a_launch_file_is_laid_over_the_configs_block(dry, make_config, tmp_path):
    (tmp_path / "team.yaml").write_text("slurm: {partition: a100}\n")
    options = ("--launch", str(tmp_path / "team.yaml"))
    code, text = dry("slurm", make_config(), *options, slurm={"nodes": 3, "partition": "cpu"})
    assert code == 0
    assert "--nodes=3" in text and "--partition=a100" in text


def test_a_run_whose_data_is_elsewhere_needs_a_name(dry, make_config):
    config = make_config("data=/no/such/folder")
    assert dry("slurm", config) == (4, dry("slurm", config)[1])
    assert "name it yourself with --id" in dry("slurm", config)[1]
    code, text = dry("slurm", config, "--id", "mine-1")
    assert code == 0 and "--job-name=mine-1" in text


def test_a_sweep_is_submitted_like_a_run(dry, make_config):
    config = make_config(
        "sweep={trials: 2, space: {recipe.selector.share: {low: 0.3, high: 0.7}}}",
        "placement.engine=ray",
    )
    code, text = dry("ray", config, verb="sweep")
    assert code == 0
    assert "-m orchestrator sweep quick.yaml" in text and "quick-sweep-" in text


@pytest.mark.parametrize(
    ("place", "missing"), [("slurm", "no squeue"), ("kuberay", "no kubectl"), ("ray", "8265")]
)
def test_a_place_that_is_not_there_is_an_error_that_says_so(
    selftrain, write, make_config, no_commands, capsys, place, missing
):
    ray = {"address": "http://127.0.0.1:9", "patience_s": 0.1}
    file = write(make_config("placement.engine=ray"), kuberay=IMAGE, ray=ray)
    assert selftrain("submit", "--to", place, "run", file) == 3
    text = capsys.readouterr().err
    assert missing in text or "127.0.0.1:9" in text
    assert "Traceback" not in text


def test_a_run_that_nobody_submitted_is_not_found(selftrain, capsys):
    assert selftrain("status", "quick") == 2
    assert "say where it runs with --to" in capsys.readouterr().err


def test_a_record_holds_names_of_variables_and_no_value(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "canary-in-the-mine")
    launch = Launch(env=("WANDB_API_KEY",))
    save_launch(tmp_path, LaunchRecord(run="r", place="slurm", place_id="7", launch=launch))
    text = Path(tmp_path / "r" / RECORD).read_text()
    assert "WANDB_API_KEY" in text and "canary" not in text

"""Where a run runs: this machine, a Ray cluster, Kubernetes, Slurm; one definition for all."""

"""Looking at runs on a cluster: a Grafana dashboard and Prometheus alerts over our metrics."""

"""The benches `paper` and `wan`: ways to split one model over a link, each as good as its idea allows."""

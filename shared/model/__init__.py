"""The staged model: partition plan, stage forward, exit heads, KV cache, sampling, bundle."""

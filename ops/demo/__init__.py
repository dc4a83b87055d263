"""The main job on one machine, with faults, in a minute: what `make demo` shows."""

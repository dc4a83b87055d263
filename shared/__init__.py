"""What the edge and the cloud must agree on; imports nothing else of ours."""

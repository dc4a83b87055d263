"""The home's side: decode loop, exits, the link to the cloud, device topics."""

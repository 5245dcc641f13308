"""One request to a hub, and what its failure means."""

"""What the measured processes run: statesync's side, the bare one, and what both of them move."""

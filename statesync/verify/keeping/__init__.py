"""The proof of the keeper's chart: alone, and together with the sessions that it begins."""

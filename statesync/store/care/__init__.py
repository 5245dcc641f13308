"""Whether a store is sound, and how it is mended."""

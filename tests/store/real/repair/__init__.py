"""A store whose file is damaged is mended, and nothing is lost that can be read."""

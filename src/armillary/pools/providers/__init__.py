"""Where workers come from, one file each."""

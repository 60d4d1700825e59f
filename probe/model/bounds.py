"""What a run is bounded by wherever it is read, planned or made."""

MOST_ADDRESSES = 16  # of one name that are watched: `edges: each`

"""The show: drills are killed at random moments, in every way, over every kind of fault that can run here; nothing is left."""

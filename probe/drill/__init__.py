"""Drills: something is broken on purpose; did the platform recover, how fast, and is everything put back?"""

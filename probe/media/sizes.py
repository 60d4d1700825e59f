"""The programmes there are, by name: width and height, all at 30 fps."""

SIZES = {"360p30": (640, 360), "720p30": (1280, 720), "1080p30": (1920, 1080), "portrait30": (360, 640)}

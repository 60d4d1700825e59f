"""What of drills does no IO and reads no clock: phases, what is measured and judged, models of files, calendar, pages."""

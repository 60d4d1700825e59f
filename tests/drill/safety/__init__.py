"""What a drill leaves behind when it is killed, cut off, lied to or run twice: nothing."""

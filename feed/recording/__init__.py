"""The door to Arrow files: what a recording holds, on disk and as messages again."""

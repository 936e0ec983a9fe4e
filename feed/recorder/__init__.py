"""The role `feed record`: feed logs in, Arrow files out."""

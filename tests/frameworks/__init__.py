"""The how-to pages for other people's packages, run with the real packages."""

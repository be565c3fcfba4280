"""The command line: a thin cover over catalog, kit and lab."""

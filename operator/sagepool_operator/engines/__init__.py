"""What each engine needs of its pod: image, command line, environment, time to load and to stop."""

"""The routes that the application answers, one thin module per subject."""

"""What an engine says about itself: health, models, load, embedding space."""

"""What this project claims of its samplers, its brief training and the networks that a search finds."""

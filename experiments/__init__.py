"""Scripts that check a claim each, and write a page about what they found."""

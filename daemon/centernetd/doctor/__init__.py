"""What this box has, what is missing, and a bundle for whoever helps."""

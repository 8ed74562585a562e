"""What this machine has, what is missing, and a support bundle."""

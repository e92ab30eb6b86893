"""What `scorecam bench` needs a checkout for: other packages, and compilers for other machines."""

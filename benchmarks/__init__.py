"""Parts of `scorecam bench` that need a checkout: other packages, other machines' compilers."""

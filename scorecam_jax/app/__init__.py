"""The application `scorecam app`, which explains photographs in a browser.

Only `page` needs Gradio. Questions, computations and drawings are functions without it.
"""

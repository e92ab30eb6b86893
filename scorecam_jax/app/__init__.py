"""The application `scorecam app`: questions to a network, in a browser.

What is asked, computed and drawn is in pure functions, which need no Gradio. `page` alone does.
"""

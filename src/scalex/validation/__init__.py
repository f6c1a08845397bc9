"""Validation: an open set. Nothing is believed because a cosine said so: each module here asks the model again.

A module takes a run, tries its directions and names on something that did not make them (real or generated images,
steered pictures), and leaves findings and tables beside those of the run, which its report then shows.
"""

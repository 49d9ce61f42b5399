"""Landmarks: named points of an image, how networks write them, and how they are measured.

Everywhere a point is (x, y) in pixels of the image at hand, where 0 is the centre of the first
pixel, float32. An unknown point is NaN in both coordinates.
"""

"""Landmarks: networks that find points, what they learn, and how their labels move."""

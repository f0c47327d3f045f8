"""A picture and the statistics of a raster: the smallest complete algorithm.

Start reading at `process.py`.
"""

"""Small synthetic Sentinel-1 scenes, their orbit files and an elevation model, for demonstrations and tests.

The metadata are valid and agree with each other; the pixels are speckle; the same arguments give the same bytes.
`python -m armillary_formats.samples DIR` writes them; start reading at `write.py`.
"""

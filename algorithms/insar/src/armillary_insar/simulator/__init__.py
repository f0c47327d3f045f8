"""Makes Sentinel-1 IW SLC pairs whose every phase is known, in SAFE format.

This package imports nothing from the processor but the readers of annotation and orbit files and their constants: scene
to radar is done forwards here, point by point on the ground, while the processor goes backwards from radar to ground.
"""

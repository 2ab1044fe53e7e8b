"""Finding parts of a photo by words, as soft masks.

A small network in the package finds the sky, the extra `regions` faces and people; other words need
a segmenter. torch is not loaded before a part is looked for.
"""

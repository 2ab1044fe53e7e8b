"""Parts of a photo by words: what is found, and the soft mask of where it is.

Sky comes from a small network of the package, faces and people from the extra `regions`, other
words from a segmenter that somebody names. No torch before something is looked for.
"""

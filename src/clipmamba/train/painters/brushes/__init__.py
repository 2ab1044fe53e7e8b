"""Functions that the painters share, by subject.

Everything here works on float32 numpy arrays: a picture is (H, W, 3) sRGB in [0, 1], a field is
(H, W). Lengths are in pixels; painters scale them by `tone.scale_of`, so that a texture keeps its
look from 96 to 256 pixels.
"""

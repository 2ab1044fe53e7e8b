# The recipe of the long run: options of `train`, in train_stylizer.py and in gpu_hour.py. Source it.

# Techniques that no picture teaches; every other look has pictures in chosen_styles.csv.
painters=(
    "low poly" halftone newsprint risograph duotone "coloured pencil" blueprint chalkboard sepia
    cyanotype "gold relief" "knitted wool" night fire frost "thermal camera" "golden hour"
)
recipe=(
    --anchors --words 0.8 "${painters[@]/#/--painter=}" --strokes 1.0 2.4
    --adversarial 1 --content 0.04 --face 0.6 --color 2 --calm 20 --noise 10 --lattice 500
)

"""Write size and hash of the default weights into their manifest, after they were replaced.

python scripts/update_manifest.py
"""

from clipmamba.weights import released, write_manifest

if __name__ == "__main__":
    write_manifest()
    for weights in released():
        print(f"{weights.name}: {weights.bytes} bytes, sha256 {weights.sha256}")

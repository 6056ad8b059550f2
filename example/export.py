"""Writes a trained classifier for LiteRT, ONNX or TensorFlow, or as one file.

python -m example.export --workdir=runs/leaf --format=litert \
    --output=leaf.tflite
"""

from leaf_audio.app.export import run

__all__ = ["run"]

if __name__ == "__main__":
    run()

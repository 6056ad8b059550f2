"""The forms in which a trained classifier is written for other runtimes."""

# For each, what the name of its file ends in; "" stands for a folder.
SUFFIXES = {
    "litert": ".tflite",
    "onnx": ".onnx",
    "savedmodel": "",
    "keras": ".keras",
}

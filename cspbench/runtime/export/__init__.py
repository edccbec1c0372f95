"""Recognisers as files of other runtimes: ONNX graphs of our own layout, and folders for sherpa-onnx."""

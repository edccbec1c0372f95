"""Recognisers as files of other runtimes: ONNX graphs of our own, folders for sherpa-onnx, ExecuTorch programs."""

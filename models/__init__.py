"""The model zoo: manifests, artifacts, conversion, preprocessing and pose decoding."""

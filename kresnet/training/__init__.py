"""A network, images and a recipe into `model.fit`."""

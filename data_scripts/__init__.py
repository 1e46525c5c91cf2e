"""Scripts that fetch, check and prepare the image data sets."""

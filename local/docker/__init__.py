"""Docker for tests of the images: an engine of one's own, and a base image where no registry can be reached."""

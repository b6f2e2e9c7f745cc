"""Reports of a training and of an evaluation: one HTML file each, charts and all, that opens anywhere and asks no server."""

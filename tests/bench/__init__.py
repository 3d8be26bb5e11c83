"""``make bench``: the speed targets, measured."""

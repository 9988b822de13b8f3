"""The stores that come with bintrades: drop-in files, and the package bintrades_plugins in a wheel.

Each file is one storage plugin with its library as an extra of its name, and has an entry point in
setup.cfg, so that it is there after `pip install` as well.
"""

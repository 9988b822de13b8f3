"""Packaging entry point; what setup.cfg can hold is declared there."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["bintrades", "bintrades.*"]), "bintrades_plugins"])

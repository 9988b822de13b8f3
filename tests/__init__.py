"""The specification of bintrades, a module of tests for each module of the package."""

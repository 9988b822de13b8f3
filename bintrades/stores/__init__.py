"""The storage plugin interface, and the stores that come with bintrades, which are plugins too."""

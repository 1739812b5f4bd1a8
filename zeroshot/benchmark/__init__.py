"""The same recipe for several architectures and seeds, measured in one way; [`commands`] starts, [`worker`] works."""

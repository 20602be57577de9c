"""Looking at the local store. Needs the ``[cli]`` extra (rich); nothing else of the package imports this."""

"""The command ``memleak-lab``: options in, exit status out."""

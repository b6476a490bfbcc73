"""One file per revision: r<revision>_<what>.py."""

"""Where searches run and what is remembered: studies, engines, devices, the store, export, the command line."""

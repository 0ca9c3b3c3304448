"""`ctk up`: bootstrap, spec and run, one after the other, each stage done once.

`stages.prepare` makes the bundle; `launch.run` starts `ctk run` in it as a child process, as any engine would.
"""

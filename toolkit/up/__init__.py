"""`ctk up`: bootstrap, spec and run in sequence, each stage done only once.

`stages.prepare` makes the bundle; `launch.run` starts `ctk run` on it as a child process, like an engine.
"""

"""Explanations: what a config.json says, what its launch will do, and what is wrong with it.

`check` lists findings, `launch` describes the launch act by act, `script` writes it as a shell script, `fields` and
`codes` are the dictionary. All of it is data to show; nothing here prints.
"""

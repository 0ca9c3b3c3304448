"""The tool that teaches: what a config.json says and will do, and what is wrong with it.

`check` lists findings, `launch` tells the launch plan act by act, `script` writes it as a shell script, `fields` and
`codes` are the dictionary. All of it is data to show; nothing here prints.
"""

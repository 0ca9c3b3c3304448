"""Tutorials that run: Markdown that reads well on a page, whose `console` blocks are steps.

    parse.py     Markdown -> Recipe                      model.py     what a recipe is made of
    compare.py   expected output against what came       terminal.py  a shell on a pseudo-terminal
    shelf.py     where recipes are                       play.py      step by step, clean-up always
    progress.py  where a reader stopped                  conditions.py  what a block needs of the host
    room.py      what a run has of its own: records, cgroups, environment

recipes/README.md is the guide for whoever writes one.
"""

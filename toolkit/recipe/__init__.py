"""Tutorials that run: Markdown that reads well on a page, whose `console` blocks are steps.

    parse.py     Markdown -> Recipe                      model.py     the types of a recipe
    compare.py   expected output against actual output   terminal.py  a shell on a pseudo-terminal
    shelf.py     where recipes are                       play.py      plays the steps, and always cleans up
    progress.py  where a reader stopped                  conditions.py  what a block needs of the host
    room.py      what each run has for itself: records, cgroups, environment

recipes/README.md is the guide for authors.
"""

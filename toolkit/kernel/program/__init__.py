"""Programs of system calls: `program.py` writes them, `interpreter.c` carries them out, `text.py` prints them."""

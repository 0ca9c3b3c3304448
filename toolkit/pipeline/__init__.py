"""How stages run: the stage protocol, the runner, the store of finished results."""

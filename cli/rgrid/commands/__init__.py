"""One verb per file. Each module has ``app``, a Typer application made by ``rgrid.verbs.application()``."""

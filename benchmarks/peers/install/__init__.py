"""Installers of the peers, one a file: each does nothing where its work is already done."""

"""How much of a gadolinium scan can be had without gadolinium? See the README."""

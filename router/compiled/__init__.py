"""The modules that every request passes through, compiled by mypyc where somebody asked for it.

The same sources, as C: a third less CPU time a request. Without it, or after a change of the
sources, Python runs them as it runs everything else.
"""

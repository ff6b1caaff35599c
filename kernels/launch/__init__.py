"""How a Triton kernel is launched: shapes and device in, tile sizes and grid out.

Plain Python without torch or Triton: every choice is tested as a table.
"""

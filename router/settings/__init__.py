"""What an operator can say: one frozen msgspec struct a topic, each checked where it is decoded.

The YAML file is a `RouterConfig`; msgspec decodes it strictly (an unknown key is an error that
names it) and derives the JSON schema from the same types. Ranges are in the types (`ranges`),
relations between fields in `__post_init__`.
"""

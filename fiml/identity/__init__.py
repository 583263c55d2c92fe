"""Who is asking over a network, what they may ask for, how often, and the line that says so.

Nothing here knows a protocol: every network face verifies a token with `TokenVerifier`, and makes
each call inside `Access.call`.
"""

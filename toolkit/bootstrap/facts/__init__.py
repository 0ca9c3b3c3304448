"""What is asked for and what is known beforehand: the request's and the lock's types, suites, architectures, policy.

Uses no other room of the builder.
"""

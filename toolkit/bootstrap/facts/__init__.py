"""The types of request, lock and result, and what is known without a network: suites, architectures, apt's policy.

Uses no other room of the builder.
"""

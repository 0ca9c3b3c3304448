"""The documents of an image: descriptor, manifest, index, configuration. Pure: bytes in, checked values out.

They are a stranger's. Each is bounded, each field has the type that the specification gives it, and a document that
two readers could read in two ways is refused (CVE-2021-41190).
"""

"""Which images are taken: a lock file that holds tags to their digests, and signatures that a policy asks for."""

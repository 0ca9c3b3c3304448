"""The only folder that speaks C: system calls under their man-page names."""

"""Side-by-side studies against SB3's own algorithms: ``python -m sb3_udrl.benchmark run ...``, then ``report``."""

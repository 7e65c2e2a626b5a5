"""The benchmark: rmq_publisher beside its peers on one real broker, in one run.

Figures are ratios: peers take turns round by round, and a ratio compares the rounds of one turn, so
that a busy machine slows both sides alike.
"""

"""Benchmarks: every speed is a ratio, against a peer or against what this machine can do, measured in the same run.

`sojourn bench decode|rollout|update|step|scale|small [--quick] [--json FILE]`
"""

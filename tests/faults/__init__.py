"""The engine under faults, with figures: real nodes and the proxy, one seed for all that is random.

A scenario strikes, watches every call to its one outcome, reads back what the queues hold, and says
which promises held. A fault that hit nothing in flight is no fault: it fails the scenario.
"""

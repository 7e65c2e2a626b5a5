"""The commands of ``manage.py``: each name begins with ``rmq_``."""

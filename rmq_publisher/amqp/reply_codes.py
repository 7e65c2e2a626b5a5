"""Reply codes of AMQP 0-9-1 (chapter 1.2 of its reference), as far as they are named in the code."""

NO_ROUTE = 312
ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
FRAME_ERROR = 501
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540
INTERNAL_ERROR = 541

# "Hard" errors end the connection; of those below only 320 does, which an operator causes.
HARD_ERRORS = 500

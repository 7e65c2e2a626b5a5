"""The benchmark of consuming: beside other clients, with the inbox, and its memory."""

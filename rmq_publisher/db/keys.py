"""Keys by which rows are unique where a text column cannot be."""

import hashlib
import uuid


def key_of(*parts: str | bytes) -> uuid.UUID:
    """Return 122 bits of the SHA-256 of some texts, by which a row is unique.

    A unique index over the texts would not do: collations of MySQL and MariaDB treat "A" and "a", and
    "a" and "a ", as equal, and PostgreSQL's text cannot hold NUL.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode(errors="surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    # With the bits of a version: MariaDB refuses a UUID without, and INSERT IGNORE makes it zeros.
    return uuid.UUID(bytes=digest.digest()[:16], version=5)

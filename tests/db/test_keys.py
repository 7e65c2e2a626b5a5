"""Keys by which rows are unique."""

from django.db import connections as databases

from rmq_publisher.consumer import dead_letters
from rmq_publisher.db.keys import key_of


def test_a_key_tells_its_parts_apart() -> None:
    keys = [key_of("a", "b"), key_of("ab"), key_of("ab", ""), key_of("A", "b"), key_of("\ud800")]
    assert len(set(keys)) == len(keys)
    assert key_of("a", b"b") == key_of("a", "b")


def test_every_key_can_be_stored_and_found(store: str) -> None:
    """MariaDB's own type refuses a UUID without the bits of a version, and stores zeros with IGNORE."""
    column = dead_letters.rows(store).model._meta.get_field("digest")
    with databases[store].cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE some_keys (k {column.db_type(databases[store])})")
        for number in range(100):
            value = column.get_db_prep_value(key_of(str(number)), databases[store])
            cursor.execute("INSERT INTO some_keys VALUES (%s)", [value])
            cursor.execute("SELECT COUNT(*) FROM some_keys WHERE k = %s", [value])
            assert cursor.fetchone() == (1,)

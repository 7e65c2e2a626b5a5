"""What others say of a value that they cannot take is not repeated."""

import traceback

import pytest

from rmq_publisher import InvalidMessage, publish, serialization

CANARY = "canary-of-a-body"


@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_a_serializers_words_are_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def encode(_name: str, value: object) -> serialization.Encoded:
        raise kind(f"cannot encode {value!r}")

    monkeypatch.setattr(serialization, "encode", encode)
    with pytest.raises(InvalidMessage) as caught:
        publish([CANARY], routing_key="key", serializer="json")
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert CANARY not in f"{caught.value} {caught.value!r}"

"""The loop, and the bytes of a connection: what is read of them, and what is sent when."""

from __future__ import annotations

from .mutant import Mutant

LOOP = "transport/rabbitmq/event_loop.py"
SETUP = "transport/rabbitmq/stream_setup.py"
WIRE = "transport/rabbitmq/socket_stream.py"

MUTANTS = (
    Mutant(
        "acks by halves",
        "The beginning of a frame is kept until the rest comes.",
        WIRE,
        "        self._unread = data[at:]\n",
        '        self._unread = b""\n',
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "multiple is not read",
        "The stream reads whether an ack speaks of several.",
        WIRE,
        "bool(data[at + 19] & 1)",
        "False",
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "an ack without an end",
        "What does not end as a frame is not taken for an ack.",
        WIRE,
        "                and data[at + ACK_SIZE - 1] == _FRAME_END\n",
        "",
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "a frame of any size",
        "A frame over what was offered ends the connection.",
        WIRE,
        "        if size > FRAME_MAX:\n",
        "        if False:\n",
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "the rest is overtaken",
        "What the socket did not take is sent later, and in order.",
        WIRE,
        "            self._unsent.popleft()\n        self._loop",
        "            self._unsent.pop()\n        self._loop",
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "the rest is not sent",
        "What the socket did not take is sent when it can be.",
        WIRE,
        "        if events & self._loop.WRITE and self._unsent:\n",
        "        if False:\n",
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "answers after the end",
        "Nothing is heard of a connection that was cut off.",
        WIRE,
        "        while at < len(data) and self._active:\n",
        "        while at < len(data):\n",
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "the end is told from within",
        "A reset is reported later, not from within the write.",
        WIRE,
        "            self._loop.add_callback(lambda: self._ended(error))\n",
        "            self._ended(error)\n",
        ("transport/rabbitmq/test_socket_stream.py",),
    ),
    Mutant(
        "the bell is mute",
        "A callback ends the loop's wait, from any thread.",
        LOOP,
        '            self._bell.send(b"!")\n',
        "            pass\n",
        ("transport/rabbitmq/test_event_loop.py",),
    ),
    Mutant(
        "a handler that was removed is called",
        "A handler that an earlier one removed is not called.",
        LOOP,
        "self._watched.get(fd, 0)",
        "self._watched.get(fd, events)",
        ("transport/rabbitmq/test_event_loop.py",),
    ),
    Mutant(
        "trouble is nobody's",
        "The handler of a descriptor is called if it has an error.",
        LOOP,
        "watched if events & _TROUBLE else events & watched",
        "events & watched",
        ("transport/rabbitmq/test_event_loop.py",),
    ),
    Mutant(
        "a cancelled timer rings",
        "A timer that was cancelled does not ring.",
        LOOP,
        "        timeout_handle.callback = None\n",
        "        pass\n",
        ("transport/rabbitmq/test_event_loop.py",),
    ),
    Mutant(
        "callbacks without end",
        "Callbacks of callbacks do not keep sockets and timers waiting.",
        LOOP,
        "        for _ in range(len(self._callbacks)):\n            self._callbacks.popleft()()\n",
        "        for _ in range(1000):\n"
        "            if self._callbacks:\n"
        "                self._callbacks.popleft()()\n",
        ("transport/rabbitmq/test_event_loop.py",),
    ),
    Mutant(
        "the later of two timers first",
        "Timers that are due at once ring in the order in which they were set.",
        LOOP,
        "(monotonic() + delay, next(self._numbers), timer)",
        "(monotonic() + delay, -next(self._numbers), timer)",
        ("transport/rabbitmq/test_event_loop.py",),
    ),
    Mutant(
        "writing does not wait for reading",
        "TLS that has to read before it can write keeps the connection and what it has to send.",
        WIRE,
        "        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):\n            pass\n",
        "        except ssl.SSLWantWriteError:\n            pass\n",
        ("transport/rabbitmq/test_tls_stream.py",),
    ),
    Mutant(
        "reading waits for ever",
        "TLS that has to write before it can read goes on when it can write.",
        WIRE,
        "            self._reading_needs_to_write = True\n"
        "            self._loop.update_handler(self._fd, self._loop.READ | self._loop.WRITE)\n",
        "            pass\n",
        ("transport/rabbitmq/test_tls_stream.py",),
    ),
    Mutant(
        "a handshake is watched after its end",
        "A handshake that is refused or called off leaves no socket watched.",
        SETUP,
        "        if self._waits:\n            self._stop_watching()\n",
        "",
        ("transport/rabbitmq/test_tls_stream.py",),
    ),
)

"""What an administrator does to a node, by remote calls of a few milliseconds."""

from __future__ import annotations

import base64
import time
from typing import NamedTuple

from . import PATIENCE
from .erlang import binary

_ACTOR = '<<"rig">>'


class ClientConnection(NamedTuple):
    """A client as the node sees it."""

    name: str  # the client-provided connection_name, or ""
    pid: str
    user: str
    state: str


class Admin:
    """Users, permissions, queues, alarms and connections of one node."""

    def eval(self, expression: str, timeout: float = PATIENCE) -> str:
        raise NotImplementedError

    # -- alarms -------------------------------------------------------------------------------

    def block(self) -> None:
        """Raise the memory alarm: connections that publish are blocked until `unblock()`."""
        self.eval("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})")
        self._await_alarm(True)

    def unblock(self) -> None:
        self.eval("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")
        self._await_alarm(False)

    def _await_alarm(self, wanted: bool) -> None:
        alarm = "lists:keymember({resource_limit, memory, node()}, 1, rabbit_alarm:get_alarms())"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if (self.eval(alarm) == "true") is wanted:
                return
            time.sleep(0.01)
        raise RuntimeError(f"the memory alarm did not become {wanted}")

    # -- users and virtual hosts --------------------------------------------------------------

    def add_user(
        self,
        name: str,
        password: str,
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
        vhost: str = "/",
        tags: tuple[str, ...] = (),
    ) -> None:
        user = binary(name)
        self.eval(
            f"ok = rabbit_auth_backend_internal:add_user({user}, {binary(password)}, {_ACTOR}),"
            f"rabbit_auth_backend_internal:set_tags({user}, [{', '.join(tags)}], {_ACTOR})"
        )
        self.set_permissions(name, configure, write, read, vhost)

    def set_permissions(
        self,
        name: str,
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
        vhost: str = "/",
    ) -> None:
        """Connections that are open learn of it only when their cached permissions expire."""
        patterns = ", ".join(binary(pattern) for pattern in (configure, write, read))
        where = f"{binary(name)}, {binary(vhost)}"
        self.eval(f"rabbit_auth_backend_internal:set_permissions({where}, {patterns}, {_ACTOR})")

    def delete_user(self, name: str) -> None:
        self.eval(f"rabbit_auth_backend_internal:delete_user({binary(name)}, {_ACTOR})")

    def add_vhost(self, name: str, user: str = "guest") -> None:
        self.eval(f"rabbit_vhost:add({binary(name)}, {_ACTOR})")
        self.set_permissions(user, vhost=name)

    def delete_vhost(self, name: str) -> None:
        self.eval(f"rabbit_vhost:delete({binary(name)}, {_ACTOR})")

    # -- queues -------------------------------------------------------------------------------

    def queue_depth(self, name: str, vhost: str = "/") -> int:
        """Messages ready for delivery."""
        return int(
            self.eval(
                f"{{ok, Q}} = rabbit_amqqueue:lookup({_queue(name, vhost)}),"
                "{ok, Ready, _} = rabbit_amqqueue:stat(Q), Ready"
            )
        )

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Behind its users' backs; a queue that is not there is fine."""
        self.eval(
            f"case rabbit_amqqueue:lookup({_queue(name, vhost)}) of"
            f" {{ok, Q}} -> rabbit_amqqueue:delete(Q, false, false, {_ACTOR}), ok;"
            " _ -> ok end"
        )

    def clear(self) -> None:
        """Delete what tests made: queues, exchanges, policies' hosts and users but the default."""
        self.eval(
            f"[rabbit_amqqueue:delete(Q, false, false, {_ACTOR})"
            "  || H <- rabbit_vhost:list_names(), Q <- rabbit_amqqueue:list(H)],"
            f"[rabbit_exchange:delete(N, false, {_ACTOR})"
            '  || I <- rabbit_exchange:info_all(<<"/">>, [name]),'
            "     {name, N = {resource, _, exchange, B}} <- I,"
            '     B =/= <<>>, binary:match(B, <<"amq.">>) =/= {0, 4}],'
            f"[rabbit_vhost:delete(H, {_ACTOR})"
            '  || H <- rabbit_vhost:list_names(), H =/= <<"/">>],'
            f"[rabbit_auth_backend_internal:delete_user(U, {_ACTOR})"
            "  || I <- rabbit_auth_backend_internal:list_users(), {user, U} <- I,"
            '     U =/= <<"guest">>],'
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"/">>, <<".*">>,'
            f' <<".*">>, <<".*">>, {_ACTOR})',
            timeout=30,
        )

    # -- connections --------------------------------------------------------------------------

    def list_connections(self) -> list[ClientConnection]:
        said = self.eval(
            "F = fun(undefined) -> <<>>; (V) when is_atom(V) -> atom_to_binary(V); (V) -> V end,"
            # A connection that has not said yet who it is has an atom there.
            "L = fun(V) when is_list(V) -> V; (_) -> [] end,"
            'N = fun(I) -> case lists:keyfind(<<"connection_name">>, 1,'
            "    L(proplists:get_value(client_properties, I)))"
            "  of {_, _, V} -> V; _ -> <<>> end end,"
            'Rows = [[lists:join("\\t", [N(I), pid_to_list(P),'
            '   F(proplists:get_value(user, I)), F(proplists:get_value(state, I))]), "\\n"]'
            " || P <- rabbit_networking:connections(), I <- [catch"
            " rabbit_networking:connection_info(P, [client_properties, user, state])],"
            " is_list(I)],"
            # Encoded, since names may be in any alphabet.
            "binary_to_list(base64:encode(unicode:characters_to_binary(Rows)))"
        )
        text = base64.b64decode(said.strip('"[]')).decode()
        return [ClientConnection(*line.split("\t")) for line in text.splitlines()]

    def close_connection(self, name: str) -> int:
        """Close, as an operator would (320), those with this name; tells how many there were."""
        pids = [client.pid for client in self.list_connections() if client.name == name]
        for pid in pids:
            self._close(f'list_to_pid("{pid}")')
        return len(pids)

    def close_all_connections(self) -> int:
        pids = [client.pid for client in self.list_connections()]
        for pid in pids:
            self._close(f'list_to_pid("{pid}")')
        return len(pids)

    def _close(self, pid: str) -> None:
        self.eval(f'catch rabbit_networking:close_connection({pid}, "closed by the rig"), ok')


def _queue(name: str, vhost: str) -> str:
    return f"rabbit_misc:r({binary(vhost)}, queue, {binary(name)})"

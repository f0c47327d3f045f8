"""One server: what it opens at its start, the loops that it runs, and how it stops."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import uvicorn

from armillary import __version__, app
from armillary.accounts import authenticate
from armillary.accounts.actor import Actor
from armillary.algorithms import register
from armillary.base import history, home, log, postgres, servers
from armillary.base.clock import utc_now
from armillary.base.db import Database
from armillary.base.errors import TransientError
from armillary.base.garbage import Garbage
from armillary.base.http import Context
from armillary.base.ids import new_id
from armillary.base.links import Links
from armillary.base.loops import Loops
from armillary.base.migrate import migrate
from armillary.base.settings import Settings
from armillary.base.storage import LINKS_KEY, Store
from armillary.definitions import apply
from armillary.deliveries import send
from armillary.granules import collect, retire
from armillary.jobs import checkpoints, deadline, kept, queue
from armillary.metrics import tally
from armillary.pools.fleet import Providers, maker
from armillary.pools.pool import default_document
from armillary.pools.reconcile import SINGLETON, Reconciler
from armillary.rules import fire, schedule
from armillary.rules.fire import Rules
from armillary.traces import export
from armillary.watchdog.watch import Watch

COLLECT_SECONDS = 60.0
RETAIN_SECONDS = 300.0  # each round asks every collection that does not keep all for what it has too much
TICK_SECONDS = 1.0
TALLY_SECONDS = 5.0
TRACES_SECONDS = 2.0
TELL_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 5.0
DRAIN = timedelta(seconds=45)

_log = log.get("server")


class Server:
    """A server of some roles on one database."""

    def __init__(self, settings: Settings, roles: tuple[str, ...], dsn: str) -> None:
        self.id: UUID = new_id()
        self.settings = settings
        self.roles = roles
        self.dsn = dsn
        self.database = Database(dsn, connections=settings.database.connections)
        self.store = Store(settings.store.url or str(settings.home / "store"), settings.store.options)
        self.url = ""
        self._stopping = asyncio.Event()
        self._loops = Loops(self.database.wakes)
        providers = Providers(maker(settings.home))
        self._pools = Reconciler(self.database, providers, settings.pools, lambda: self.url)

    async def run(self) -> None:
        """Start, say so, run until told to stop, and stop in good order."""
        log.configure(json=self.settings.log.json_lines, level=self.settings.log.level)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        context = await self._open()
        web = await self._start_web(context) if "web" in self.roles else None
        self._start_loops(context)
        await self._announce()
        await self._stopping.wait()
        await self._stop(web)

    async def _open(self) -> Context:
        for name in await migrate(self.dsn):
            _log.info("migrated", migration=name)
        await self.database.open()
        async with self.database.transaction() as tx:
            instance = str(await tx.value("select id from instance"))
            await servers.enter(tx, self.id, list(self.roles), __version__)
            if "watchdog" in self.roles and not self.settings.traces.endpoint:
                await history.forget(tx, export.READER)
        await self.store.claim(instance)
        await self._make_owner()
        return Context(self.database, self.settings, self.store, await self._links(), instance, lambda: self.url)

    async def _links(self) -> Links:
        """With the key that all servers of the store share. A home's own, of before they did, becomes it or is still taken."""
        file = self.settings.home / "secrets" / "links.key"
        former = [file.read_bytes()] if file.exists() else []
        return Links(await self.store.secret(LINKS_KEY, *former), *former)

    async def _make_owner(self) -> None:
        """The owner, their token in the home, the built-in algorithm and the first pool; all only once."""
        path = self.settings.home / "owner-token"
        async with self.database.transaction() as tx:
            token = None if path.exists() else await authenticate.make_owner(tx)
            await register.register_builtin(tx, send.ALGORITHM)
            if self.settings.pools.start_local and not await apply.in_force(tx, _owner(), "pool"):
                await apply.apply(tx, _owner(), [default_document(self.settings.pools.idle_workers)])
        if token:
            home.write_private(path, token + "\n")

    async def _start_web(self, context: Context) -> "_Web":
        listener = listen(self.settings.web.host, self.settings.web.port)
        host, port = listener.getsockname()[:2]
        self.url = (self.settings.web.public_url or f"http://{host}:{port}").rstrip("/")
        web = _Web(app.build(context), listener)
        await web.start()
        return web

    def _start_loops(self, context: Context) -> None:
        loop = self._loops.add
        loop("beat", self._beat, servers.BEAT.total_seconds())
        loop("tell", self._tell, TELL_SECONDS)
        loop("garbage", Garbage().turn, TICK_SECONDS)
        if self.settings.database.dsn is None:
            loop("database", self._revive, TICK_SECONDS)
        if "reactor" in self.roles:
            rules = Rules()
            loop("rules", lambda: fire.react(self.database, rules), wakes=True)
            loop("deliveries", lambda: send.react(self.database), wakes=True)
            loop("timers", lambda: self.database.retry(lambda tx: schedule.tick(tx, rules)), TICK_SECONDS)
        if "pools" in self.roles:
            loop("pools", self._reconcile, TICK_SECONDS)
        if "watchdog" in self.roles:
            loop("collector", self._collect, COLLECT_SECONDS)
            loop("retention", self._retain, RETAIN_SECONDS)
            loop("deadlines", lambda: deadline.sweep(self.database), TICK_SECONDS)
            loop("tally", lambda: self._catch_up(lambda: tally.add_up(self.database, self.id)), TALLY_SECONDS)
            if self.settings.traces.endpoint:
                exporter = export.Exporter(self.settings.traces, context.instance)
                loop("traces", lambda: self._catch_up(lambda: exporter.round(self.database, self.id)), TRACES_SECONDS)
            loop("partitions", self._make_partitions, 3600.0)
            watch = Watch(self.database, self.store, self.settings)
            loop("watch", lambda: watch.round(self.id), TICK_SECONDS)

    async def _beat(self) -> None:
        async with self.database.transaction() as tx:
            await servers.beat(tx, self.id, self.settings.pools.time_to_live, is_web="web" in self.roles)

    async def _tell(self) -> None:
        folders = [self.settings.home, *([self.store.root] if self.store.root else [])]
        disks = await asyncio.to_thread(servers.disks, folders)
        async with self.database.transaction() as tx:
            await servers.tell(tx, self.id, {"loops": self._loops.told(), "disks": disks}, utc_now())

    async def _revive(self) -> None:
        """Start the embedded PostgreSQL again if it was killed, or if its disk was full and is no longer."""
        if await asyncio.to_thread(postgres.is_running, self.settings.home) is None:
            _log.warning("PostgreSQL has ended; it is started again")
            await asyncio.to_thread(postgres.start, self.settings.home)

    async def _reconcile(self) -> None:
        begun = time.monotonic()
        async with self.database.transaction() as tx:
            epoch = await servers.hold(tx, SINGLETON, self.id)
        if epoch is not None:
            await self._pools.round(epoch)
        else:
            await self._pools.mind_host()
        # The whole queue is counted: a long one less often, so that counting takes a tenth of the time.
        await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, 9 * (time.monotonic() - begun)))

    async def _catch_up(self, read: Callable[[], Awaitable[bool]]) -> None:
        """Read the history to its end; a long one takes half of the time, so that others get theirs."""
        begun = time.monotonic()
        while await read():
            await asyncio.sleep(time.monotonic() - begun)
            begun = time.monotonic()

    async def _collect(self) -> None:
        await collect.collect(self.database, self.store)
        await checkpoints.collect(self.database, self.store)
        await kept.collect(self.database, self.store)

    async def _retain(self) -> None:
        expires = self.settings.store
        grace = max(expires.retired_expires, expires.link_expires)  # a link that was given before still works
        await retire.sweep(self.database, (queue.referred, fire.referred), grace)

    async def _make_partitions(self) -> None:
        async with self.database.transaction() as tx:
            await tx.execute("select armillary_partitions()")

    async def _announce(self) -> None:
        async with self.database.transaction() as tx:
            code = await authenticate.make_sign_in(tx)
        if self.url:
            home.announce(
                self.settings.home, {"url": self.url, "pid": os.getpid(), "sign_in": f"{self.url}/sign-in?code={code}"}
            )
        _log.info("ready", url=self.url, roles=",".join(self.roles), home=str(self.settings.home))

    async def _stop(self, web: "_Web | None") -> None:
        _log.info("stopping")
        if "pools" in self.roles:
            self._loops.cancel("pools")
            # Workers finish or hand back, while the web server still listens to them.
            await self._pools.stop_all(DRAIN)
        if web:
            await web.stop()
        await self._loops.stop()
        home.withdraw(self.settings.home)
        with contextlib.suppress(TransientError):
            async with self.database.transaction() as tx:
                await servers.leave(tx, self.id)
        await self.database.close()
        _log.info("stopped")


def listen(host: str, port: int) -> socket.socket:
    """A socket whose connections send at once what they have.

    asyncio sees to that only where a socket names TCP as its protocol, which this one does not: an answer's body waited 40 ms
    for the far side to acknowledge the header. What the listener is told, Linux tells each of its connections.
    """
    listener = socket.create_server((host, port), backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Web:
    """uvicorn on our own socket, without its signal handlers."""

    def __init__(self, application: Any, listener: socket.socket) -> None:
        config = uvicorn.Config(
            application, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1,
            timeout_keep_alive=75, server_header=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        self._listener = listener

    async def start(self) -> None:
        """Return once it answers."""
        self._task = asyncio.create_task(self._server.serve([self._listener]))
        while not self._server.started:
            if self._task.done():
                await self._task
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Let requests end."""
        self._server.should_exit = True
        await self._task


def _owner() -> Actor:
    return Actor(authenticate.OWNER, authenticate.OWNERS, is_owner=True)

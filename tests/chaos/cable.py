"""The cable between the nodes and NATS: a forwarder that a fault can pull out, or stop on one node's side without a word."""
import asyncio
import threading


class Cable:
    def __init__(self, target):
        """target(): the port of NATS now."""
        self._target, self._loop, self._open = target, asyncio.new_event_loop(), {}
        self._server, self.port = None, 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self):
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _join(self, reader, writer):
        flows = asyncio.Event()
        flows.set()
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target())
        except OSError:
            writer.close()
            return
        self._open[writer] = (flows, to_writer)
        try:
            _, pending = await asyncio.wait([asyncio.ensure_future(self._pump(reader, to_writer, flows)), asyncio.ensure_future(self._pump(to_reader, writer, flows))],
                                            return_when=asyncio.FIRST_COMPLETED)
            for p in pending:
                p.cancel()
        finally:
            self._open.pop(writer, None)
            writer.close()
            to_writer.close()

    @staticmethod
    async def _pump(reader, writer, flows):
        try:
            while data := await reader.read(65536):
                await flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass

    async def _pull(self):
        self._server.close()
        for writer, (_, to_writer) in list(self._open.items()):
            writer.transport.abort()
            to_writer.transport.abort()

    async def _hush(self, which, on):
        ends = list(self._open.values())
        if not on:
            for flows, _ in ends:
                flows.set()
        elif ends:
            ends[which % len(ends)][0].clear()

    def pull(self):
        """Every connection is reset, and none is taken."""
        self._do(self._pull())

    def plug(self):
        self._do(self._listen())

    def hush(self, which):
        """Nothing passes on one connection any more, and nobody is told; a new one works."""
        self._do(self._hush(which, True))

    def speak(self):
        self._do(self._hush(0, False))

    def close(self):
        self.pull()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

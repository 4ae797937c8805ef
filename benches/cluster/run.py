#!/usr/bin/env python3
"""Independent steps, and a chain of steps, on a machine with kiln behind a slow line.

Starts `kiln serve --remote-execution` with one action at once for each "worker", and a proxy before it that
is as slow as the line is to be: so much delay each way, so many bits a second, and how many bytes went through
it. (tc netem does the same where the kernel has it.) Prints a table in Markdown. Needs kiln, and a base image
with a shell as an OCI layout (--base DIR:TAG). Each step sleeps: what is measured is what sending it
costs, not how fast the machine compiles.
"""

import argparse, asyncio, os, pathlib, re, shutil, socket, subprocess, sys, tempfile, threading, time

# The line takes no more before it slows the sender down, in bytes.
QUEUE = 1 << 20


class Line:
    """A proxy in a thread of its own."""

    def __init__(self, target, delay, rate):
        self.target, self.delay, self.rate = target, delay, rate
        self.moved = 0
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self.work, args=(ready,), daemon=True).start()
        ready.wait()

    def work(self, ready):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    async def connected(self, reader, writer):
        far = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(self.carry(reader, far[1]), self.carry(far[0], writer))

    async def carry(self, reader, writer):
        """Bytes leave at the line's rate, and arrive after its delay."""
        on_the_way = asyncio.Queue(maxsize=max(1, QUEUE // (64 << 10)))
        arriving = asyncio.ensure_future(self.arrive(on_the_way, writer))
        free = time.monotonic()
        try:
            while data := await reader.read(64 << 10):
                self.moved += len(data)
                free = max(free, time.monotonic()) + len(data) / self.rate
                await on_the_way.put((free + self.delay, data))
        except OSError:
            pass
        await on_the_way.put((0, b""))
        await arriving

    async def arrive(self, on_the_way, writer):
        try:
            while True:
                when, data = await on_the_way.get()
                if not data:
                    break
                await asyncio.sleep(max(0, when - time.monotonic()))
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


class Node:
    """A machine that runs so many actions at once."""

    def __init__(self, kiln, place, workers):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (place / "serve.toml").write_text(f"[worker.oci]\nmax-parallelism = {workers}\n")
        words = [kiln, "serve", "--remote-execution", "--root", place / f"node{workers}",
                 "--config", place / "serve.toml", "--addr", f"tcp://127.0.0.1:{self.port}"]
        self.process = subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True)
        self.process.stderr.readline()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def independent(count, each):
    stages = [f"FROM base AS s{at}\nRUN sleep {each}; echo {at} > /o{at}\n" for at in range(count)]
    copies = [f"COPY --from=s{at} /o{at} /\n" for at in range(count)]
    return "".join([*stages, "FROM base\n", *copies])


def chain(count, each):
    return "FROM base\n" + "".join(f"RUN sleep {each}; echo {at} > /o{at}\n" for at in range(count))


def build(args, place, text, line=None, more=""):
    """Seconds, megabytes through the line, and how many commands ran on the node."""
    context = place / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(text)
    words = [args.kiln, "build", context, "--no-cache", "--build-context", f"base=oci:{args.base}",
             "--jobs", "1", "--progress", "plain"]
    if line:
        words += ["--executor", f"grpc://127.0.0.1:{line.port}{more}"]
    before, began = line.moved if line else 0, time.monotonic()
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          env={**os.environ, "KILN_ROOT": str(place / "store")})
    took = time.monotonic() - began
    if done.returncode != 0:
        sys.exit(done.stderr)
    there = len(set(re.findall(r"^(#\d+) \[on grpc", done.stderr, re.M)))
    return took, ((line.moved if line else 0) - before) / 1e6, there


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kiln", required=True)
    parser.add_argument("--base", required=True, help="DIR:TAG")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--each", default="0.2", help="how long a step sleeps, in seconds")
    parser.add_argument("--line", action="append", default=[], help="MILLISECONDS/MEGABITS, such as 1/1000")
    args = parser.parse_args()
    place = pathlib.Path(tempfile.mkdtemp(prefix="kiln-bench-"))
    place.chmod(0o755)
    many, ten = independent(args.steps, args.each), chain(10, args.each)

    def report(line, steps, where, got):
        print(f"| {line} | {steps} | {where} | {got[0]:.1f} s | {got[1]:.2f} | {got[2]} |", flush=True)

    try:
        print("| line | steps | where | time | MB moved | on the node |\n|---|---|---|---|---|---|")
        report("", f"{args.steps} independent", "here, 1 at once", build(args, place, many))
        report("", "chain of 10", "here", build(args, place, ten))
        for each in args.line or ["1/1000", "20/100"]:
            delay, rate = each.split("/")
            name = f"{delay} ms, {rate} Mbit/s"
            for workers in (1, 2):
                shutil.rmtree(place / f"node{workers}", ignore_errors=True)
                node = Node(args.kiln, place, workers)
                line = Line(node.port, float(delay) / 1000, float(rate) * 1e6 / 8)
                on = f"node, {workers} at once"
                try:
                    report(name, "chain of 10", f"{on}, empty", build(args, place, ten, line, ",place=cluster"))
                    report(name, "chain of 10", on, build(args, place, ten, line, ",place=cluster"))
                    report(name, f"{args.steps} independent", on, build(args, place, many, line, ",place=cluster"))
                    report(name, f"{args.steps} independent", f"{on}, and here", build(args, place, many, line))
                finally:
                    node.stop()
    finally:
        shutil.rmtree(place, ignore_errors=True)


main()

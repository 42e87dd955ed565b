"""The distribution's own programs at work, as they are packaged: nearly all are built without frame pointers."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from diagnosis.base.errors import LabError
from diagnosis.target.launch import Launched
from diagnosis.target.process import Process
from diagnosis.trace.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS: Final = Path(__file__).with_name("programs")
LIMIT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.01
REQUESTS: Final = 300


@dataclass(frozen=True)
class Command:
    """A program that ends with its work: traced from its first allocation to its last.

    Attributes:
        package: Debian's, that has the program.
        arguments: what comes after the program, with files that this makes in a folder.
        resolve: the program that does the work, where another one is installed under the name.
    """

    name: str
    program: str
    package: str
    arguments: Callable[[Path], list[str]]
    resolve: Callable[[str], str] = str

    @contextlib.contextmanager
    def traced(self, folder: Path) -> Iterator[Tracer]:
        """A tracer of its whole life, which has ended. ``folder`` is its own, and empty.

        Raises:
            LabError: it cannot be started, or failed.
        """
        command = [self.resolve(self.program), *self.arguments(folder)]
        with Launched(command) as launched, Tracer(launched.process) as tracer:
            launched.resume()
            ending = launched.ending(LIMIT_SECONDS)
            if not ending.endswith("exit status 0"):
                raise LabError(f"{self.name}: {ending}", f"run it by itself: {' '.join(command)}")
            yield tracer


@dataclass(frozen=True)
class Server:
    """A program that serves on a socket of its own: traced from when it serves to the end of some requests.

    Attributes:
        package: Debian's, that has the program.
        arguments: what comes after the program; it serves on ``folder / "socket"``.
        ask: has it work, and waits for the end of that.
        worker: it serves by a child process, which is the traced one.
    """

    name: str
    program: str
    package: str
    arguments: Callable[[Path], list[str]]
    ask: Callable[[Path], object]
    worker: bool = False

    @contextlib.contextmanager
    def traced(self, folder: Path) -> Iterator[Tracer]:
        """A tracer of the time in which it was asked. ``folder`` is its own, and empty.

        Raises:
            LabError: it does not serve, or not to the end.
        """
        command, log = [self.program, *self.arguments(folder)], folder / "log"
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as server,
        ):
            try:
                pid = self._serving(server, folder / "socket")
                with Tracer(Process(pid)) as tracer:
                    self.ask(folder / "socket")
                    yield tracer
            except (OSError, http.client.HTTPException) as error:
                raise LabError(f"{self.name}: {error}: {log.read_text()[-500:]}") from error
            finally:
                server.terminate()

    def _serving(self, server: subprocess.Popen[bytes], path: Path) -> int:
        until = time.monotonic() + LIMIT_SECONDS
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        while server.poll() is None and time.monotonic() < until:
            pids = [int(pid) for pid in children.read_text().split()] if self.worker else [server.pid]
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                if pids:
                    return pids[0]
            time.sleep(POLL_SECONDS)
        raise LabError(f"{self.name} does not serve within {LIMIT_SECONDS:g} s", f"run it: {self.program}")


Packaged: TypeAlias = Command | Server


def missing(packaged: Packaged) -> str:
    """Why it cannot run here; "" where it can."""
    if shutil.which(packaged.program):
        return ""
    return f"{packaged.program} is not installed: apt-get install {packaged.package}"


SQL_ROWS: Final = 1000


def statements(rows: int) -> str:
    """SQL for the shell of SQLite, about a table of so many rows."""
    return f"""create table t(a integer primary key, b text, c real);
create index ti on t(b);
with recursive s(i) as (select 1 union all select i + 1 from s where i < {rows})
  insert into t(b, c) select printf('%d-%s', i, hex(zeroblob(i % 200))), i * .5 from s;
select b, count(*), sum(c) from t group by substr(b, 1, 3) order by 2 desc limit 3;
select json_group_array(b) is null from (select b from t limit 50);
select max(length(x.b || y.b)) from t x join t y on x.a = y.a + 1 where x.b like '%3%';
create view v as select * from t where c > 3;
select count(*) from v where b in (select b from t where a % 3 = 0);
"""  # noqa: S608 - a number of its own


PYTHON: Final = """
import json, re, socket, sys, threading, zlib, xml.etree.ElementTree as ET
def work():
    for i in range(150):
        json.loads(json.dumps({"k": list(range(i % 50)), "s": "y" * 600}))
        re.compile("a%d(b|c)*[d-z]+" % i).match("a1bcbcd")
        zlib.decompress(zlib.compress(b"q" * 3000))
        ET.fromstring("<a>" + "<b c='1'>t</b>" * 20 + "</a>")
        sorted({str(j): [j] * 100 for j in range(30)}.items(), key=lambda pair: pair[1])
def works():
    thread = threading.Thread(target=work)
    thread.start()
    work()
    thread.join()
if len(sys.argv) == 1:
    works()
else:
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen()
    while True:
        client, _ = server.accept()
        if client.recv(1):
            works()
            client.send(b"!")
        client.close()
"""

NGINX: Final = """daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access;
  gzip on;
  gzip_min_length 0;
  gzip_types *;
  server {{
    listen unix:{folder}/socket;
    root {folder};
    location /moved {{ return 301 /page; }}
    location /rewritten {{ rewrite ^/rewritten/(.*)$ /$1 break; }}
  }}
}}
"""


def _sqlite(folder: Path) -> list[str]:
    script = folder / "work.sql"
    script.write_text(f".output /dev/null\n{statements(SQL_ROWS)}")
    return ["-batch", ":memory:", f".read {script}"]


def _git(folder: Path) -> list[str]:
    """The whole history, with its patches, of a repository that is made here."""
    git = ["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def run(*words: str) -> None:
        subprocess.run([*git, *words], env=environment, stdin=subprocess.DEVNULL, check=True, capture_output=True)

    run("init", "--quiet", "--initial-branch=main")
    for number in range(20):
        for name in "abcdef":
            (folder / f"{name}.txt").write_text("\n".join(f"{name}{line * number % 17}" for line in range(60)))
        run("add", ".")
        run("commit", "--quiet", f"--message=step {number}")
    log = ["log", "--patch", "--stat", "--find-copies", f"--output={folder / 'log.txt'}"]
    return ["-C", str(folder), "--no-pager", *log]


def _cc1(folder: Path) -> list[str]:
    named = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True)
    multiarch = ["-imultiarch", named.stdout.strip()] if named.stdout.strip() else []
    return ["-quiet", "-O2", "-g", *multiarch, str(PROGRAMS / "loop.c"), "-o", str(folder / "loop.s")]


def _gcc_compiler(gcc: str) -> str:
    """The compiler proper, which gcc starts."""
    return subprocess.run([gcc, "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()


def _redis(folder: Path) -> list[str]:
    return ["--port", "0", "--unixsocket", str(folder / "socket"), "--save", "", "--dir", str(folder)]


def _ask_redis(path: Path) -> None:
    script = "local t = {} for i = 1, 20 do t[i] = redis.sha1hex(ARGV[1] .. i) end return #t"
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as answers:
        client.settimeout(LIMIT_SECONDS)
        client.connect(str(path))
        for i in range(REQUESTS):
            for words in (
                ("set", f"key{i}", "v" * (20 * i)),
                ("append", f"key{i}", "w" * 600),
                ("hset", f"hash{i % 7}", f"field{i}", "x" * 90),
                ("zadd", "ranks", str(i * 7 % 31), f"member{i}"),
                ("rpush", "list", "y" * i, "z"),
                ("eval", script, "0", str(i)),
                ("sort", "ranks", "alpha", "store", "sorted"),
                ("del", f"key{i // 2}", f"hash{i % 5}"),
            ):
                encoded = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
                client.sendall(b"*%d\r\n%s" % (len(words), encoded))
                if (answer := answers.readline())[:1] not in (b"+", b":"):
                    raise LabError(f"redis-server answered {words[0]} with {answer!r}")


def _ask_python(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_SECONDS)
        client.connect(str(path))
        client.sendall(b"?")
        if not client.recv(1):
            raise LabError("python3 did not come to the end of its work")


def _nginx(folder: Path) -> list[str]:
    (folder / "page").write_text("<p>a line of text</p>\n" * 500)
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder))
    return ["-p", str(folder), "-c", str(configuration), "-e", str(folder / "errors")]


def _ask_nginx(path: Path) -> None:
    for i in range(REQUESTS):
        for target in ("/page", "/moved", "/rewritten/page", f"/none{i}"):
            with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as answer:
                client.settimeout(LIMIT_SECONDS)
                client.connect(str(path))
                head = f"GET {target} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
                client.sendall(head.encode())
                if not answer.read().startswith(b"HTTP/1.1 "):
                    raise LabError(f"nginx gave no answer to {target}")


PYTHON3: Final = "/usr/bin/python3"
# It uses its modules as soon as they are loaded, before their tables are: see LOOK_SECONDS of diagnosis.trace.tracer.
FROM_START: Final = Command("python3, from its start", PYTHON3, "python3", lambda _: ["-c", PYTHON])
PACKAGED: Final[tuple[Packaged, ...]] = (
    Command("sqlite3", "/usr/bin/sqlite3", "sqlite3", _sqlite),
    Server("python3", PYTHON3, "python3", lambda folder: ["-c", PYTHON, str(folder / "socket")], _ask_python),
    FROM_START,
    Command("git", "/usr/bin/git", "git", _git),
    Command("gcc (cc1)", "/usr/bin/gcc", "gcc", _cc1, _gcc_compiler),
    Server("redis-server", "/usr/bin/redis-server", "redis-server", _redis, _ask_redis),
    Server("nginx (its worker)", "/usr/sbin/nginx", "nginx-light", _nginx, _ask_nginx, worker=True),
)

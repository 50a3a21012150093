"""Three replicas, PostgreSQL, Redis and nginx, each in a container; `transformers serve` with the guide plays vLLM.

The replicas run in the image under test, as deploy/kubernetes/base/chat.yaml runs them. The other three run Debian's
programs of this machine, whose /usr is mounted in place of their image's: no registry has to be reached for them, and
nothing has to be built. All use the machine's network, for the engine is a process on it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import pytest

from app.settings import Settings
from tests.container.docker import PYTHON_IMAGE, Container, docker, program, until
from tests.deployed import KUBERNETES, containers, environment, of_kind, rendered, templates
from tests.nginx import nginx
from tests.postgres import Postgres, wait_for
from tests.redis import Redis
from tests.servers import guide, transformers_serve
from tests.site import Program, free_port
from tests.tab import Tab, Visitor, new_id, question

REPLICAS: Final = 3
RATE: Final = 12
KEY: Final = "key-of-a-program-0123456789"
# Asked for, the guide writes for a while.
ASKED: Final = "How do I start a real model?"
_STOP: Final = 100
# That so many leave one of three out happens once in 60,000 times.
_MOST_VISITORS: Final = 30


@dataclass
class Site:
    """What visitors and programs see, and what is behind it."""

    proxy: Program
    model: str
    replicas: list[Container] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def is_ready(self, n: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[n]}/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, n: int) -> None:
        until(lambda: self.is_ready(n), self.replicas[n].logs)
        assert self.replicas[n].state["Running"], self.replicas[n].logs()  # and not another program on its port

    def has_begun(self, n: int, finished: int) -> bool:
        """Whether a replica writes a reply, or has, since it had finished so many."""
        series = httpx.get(f"http://127.0.0.1:{self.ports[n]}/metrics", timeout=5, trust_env=False).text
        running = re.search(r'num_requests_running{engine="vllm"} ([\d.]+)', series)
        assert running
        return float(running[1]) > 0 or self.finished()[n] > finished

    def finished(self) -> list[int]:
        """How many replies each replica has written to their end, by its log."""
        return [replica.logs().count(" finished ") for replica in self.replicas]


@dataclass(frozen=True)
class Answer:
    """An answer as it stands in the conversation, with the phase that the line under it shows."""

    id: str
    text: str
    phase: str
    can_be_retried: bool


@dataclass
class Talker:
    """A browser with a page open, which looks for another replica when its own goes away.

    Attributes:
        replica: which one it found first.
        thread_id: of its conversation.
        asked: the ids of its questions.
    """

    visitor: Visitor
    tab: Tab
    replica: int = -1
    thread_id: str = ""
    asked: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.asked.append(new_id())
        self.tab.send("client_message", question(text, self.asked[-1]))
        if not self.thread_id:
            self.thread_id = self.tab.wait_for("first_interaction")[0]["thread_id"]

    def wait(self, *phases: str) -> None:
        """Until all answers are stored in one of these phases, whatever becomes of the connection."""
        deadline = time.monotonic() + _STOP
        while not {answer.phase for answer in self.answers()} <= set(phases) or len(self.answers()) < len(self.asked):
            assert time.monotonic() < deadline, self.answers()
            self.tab.listen(0.2)
            time.sleep(0.1)  # where there is no connection

    def come_back(self) -> None:
        """Where the connection is gone, make another, as the page does by itself."""
        self.tab.listen(0.2)
        if not self.tab.connected:
            self.tab = Tab(self.visitor, thread_id=self.thread_id)
            assert self.tab.accepted
            self.tab.wait_for("resume_thread")

    def try_again(self) -> None:
        """Press the button under the last answer; the replica answers that has the page now."""
        last = self.answers()[-1]
        assert last.can_be_retried
        action = {"name": "retry", "payload": {"message_id": last.id}}
        pressed = self.visitor.call("POST", "/project/action", {"action": action, "sessionId": self.tab.session_id})
        assert pressed.status_code == 200
        self.wait("finished")

    def answers(self) -> list[Answer]:
        """What is stored of the conversation by now."""
        stored = self.visitor.http.get(f"/project/thread/{self.thread_id}")
        if stored.status_code == 404:  # its first question is not yet
            return []
        thread = stored.raise_for_status().json()
        questions = [step["id"] for step in thread["steps"] if step["type"] == "user_message"]
        assert questions == self.asked[: len(questions)]
        shown = {element["forId"]: element["props"] for element in thread["elements"]}
        found = [step for step in thread["steps"] if step["type"] == "assistant_message"]
        return [Answer(s["id"], s["output"], shown[s["id"]]["phase"], shown[s["id"]]["retry"]) for s in found]


@pytest.fixture(scope="module")
def site(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("replicas")
    names: list[str] = []

    def within(place: Path) -> Sequence[str]:
        names.append(f"chainlit-ollama-test-{uuid4().hex[:8]}")
        mounts = ("/usr:/usr:ro", "/etc/passwd:/etc/passwd:ro", "/etc/group:/etc/group:ro", f"{place}:{place}")
        options = (part for mount in mounts for part in ("--volume", mount))
        return (program() or "docker", "run", "--rm", "--name", names[-1], "--network", "host", *options, PYTHON_IMAGE)

    with ExitStack() as stack:
        stack.callback(lambda: docker("rm", "--force", "--volumes", *names, check=False))
        # More threads than there are free cores make so small a model many times slower.
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("OMP_NUM_THREADS", "1")
        engine, model = stack.enter_context(transformers_serve(guide(), folder))
        postgres = Postgres(within=within)
        stack.callback(postgres.remove)
        postgres.start()
        (folder / "redis").mkdir()
        redis = Redis(folder / "redis", within=within(folder / "redis"))
        stack.callback(redis.stop)
        redis.start()
        settings = {
            "DATABASE_URL": postgres.url(wait_for(postgres.new_database)),
            "SECRET_KEY": uuid4().hex * 2,
            "RATE_LIMIT": f"{RATE}/hour",
            "RATE_LIMIT_STORAGE": redis.url,
            "API_KEYS": f"ann:{KEY}",
            "VLLM_URL": engine.url,
            # A machine that is busy with other things is slow, and this is not about speed.
            "MAX_TOKENS": "16",
            "STOP_SECONDS": str(_STOP),
        }
        ports = [free_port() for _ in range(REPLICAS)]
        places = {
            "    server 127.0.0.1:8001 max_fails=1 fail_timeout=5s;\n": "".join(
                f"    server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;\n" for port in ports
            ),
            "    server 127.0.0.1:8002 max_fails=1 fail_timeout=5s;\n": "",
        }
        replicas = [start(image, names, port, settings) for port in ports]
        (folder / "nginx").mkdir()
        proxy, _ = stack.enter_context(
            nginx(folder / "nginx", "nginx-replicas.conf", places, within=within(folder / "nginx"))
        )
        stack.callback(lambda: docker("rm", "--force", "--volumes", *names, check=False))
        site = Site(proxy, model, replicas, ports)
        for n in range(REPLICAS):
            site.wait_until_ready(n)
        yield site


def start(image: str, names: list[str], port: int, settings: dict[str, str]) -> Container:
    """A replica, as Kubernetes starts it but for the network and what is in its Secrets."""
    manifests = rendered(KUBERNETES / "vllm")
    assert of_kind(manifests, "Deployment", "chat")
    (told,) = containers(dict(templates(manifests))["chat"])
    variables = {name: value for name, value in environment(told, manifests).items() if value is not None}
    for name in ("MODEL", "SLOTS"):  # of an engine that is vLLM
        del variables[name]
    variables |= settings | {"PORT": str(port), "HOST": "127.0.0.1", "TRUSTED_PROXIES": "127.0.0.1"}
    assert variables.keys() <= {name.upper() for name in Settings.model_fields}
    names.append(f"chainlit-ollama-test-{uuid4().hex[:8]}")
    entrypoint, *arguments = told["command"]
    options = [
        *("--detach", "--name", names[-1], "--network", "host", "--user", "10001:10001", "--read-only"),
        *("--tmpfs", "/data:uid=10001", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--entrypoint", entrypoint),
        *("--security-opt", "no-new-privileges", "--memory", "512m"),
        *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
    ]
    return Container(docker("run", *options, image, *arguments).stdout.strip())


@pytest.fixture(scope="module")
def talkers(site: Site) -> Iterator[list[Talker]]:
    """Two visitors of each replica. Their cookies decide which one they find."""
    beginnings = [began(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)) for port in site.ports]
    assert len(set(beginnings)) == REPLICAS
    found: list[Talker] = []
    for _ in range(_MOST_VISITORS):
        visitor = Visitor(site.proxy.url)
        replica = beginnings.index(began(visitor.http))
        if sum(talker.replica == replica for talker in found) < 2:
            found.append(Talker(visitor, Tab(visitor), replica))
        if len(found) == 2 * REPLICAS:
            break
    yield found
    for talker in found:
        talker.tab.leave()
        talker.visitor.close()


def began(client: httpx.Client) -> str:
    """When the process was started that a client finds: no two were at once."""
    series = client.get("/metrics").raise_for_status().text
    return next(line for line in series.splitlines() if line.startswith("process_start_time_seconds "))


def test_visitors_are_spread_over_all_replicas(site: Site, talkers: list[Talker]) -> None:
    assert sorted(talker.replica for talker in talkers) == [n for n in range(REPLICAS) for _ in range(2)]
    for talker in talkers:
        talker.say(ASKED)
    for talker in talkers:
        talker.wait("finished")
    until(lambda: site.finished() == [2] * REPLICAS, lambda: str(site.finished()))
    for talker in talkers:
        (answer,) = talker.answers()
        assert answer.phase == "finished"
        assert answer.text


def test_what_one_replica_has_counted_counts_for_all(site: Site) -> None:
    def ask(n: int) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{site.ports[n % REPLICAS]}/v1/chat/completions",
            json={"model": site.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
            trust_env=False,
        )

    assert [ask(n).status_code for n in range(RATE)] == [200] * RATE
    for n in range(REPLICAS):
        refused = ask(n)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 3600


def test_a_rolling_restart_loses_no_conversation_and_no_reply(site: Site, talkers: list[Talker]) -> None:
    for n, replica in enumerate(site.replicas):
        before = site.finished()[n]
        for talker in talkers:
            talker.say(ASKED)
        # In the middle of it all: a reply of this replica is being written, others wait for their turn.
        until(partial(site.has_begun, n, before), replica.logs)
        with ThreadPoolExecutor(len(talkers)) as pool:
            waiting = [pool.submit(talker.wait, "finished", "failed") for talker in talkers]
            docker("stop", "--time", str(_STOP + 10), replica.id)
            for one in waiting:
                one.result()
        assert replica.state["ExitCode"] == 0
        for talker in talkers:
            talker.come_back()
        # What it had taken was finished. What came too late is kept, with a button that the others answer to.
        assert site.finished()[n] > before
        for talker in talkers:
            if talker.answers()[-1].phase == "failed":
                talker.try_again()
        assert all(answer.phase == "finished" for talker in talkers for answer in talker.answers())
        docker("start", replica.id)
        site.wait_until_ready(n)
        time.sleep(1)  # so long nginx leaves one alone that was away, and tells nobody when it is over
    assert any("ending, " in replica.logs() for replica in site.replicas)
    for talker in talkers:
        assert len(talker.asked) == 1 + REPLICAS
        assert all(answer.text for answer in talker.answers())

"""Ask a running application and write what was seen as JSON.

python -m PACKAGE.main scan PLAN REPORT
python -m PACKAGE.main alive BASE PATH WITHIN_S
python -m PACKAGE.main describe BASE PATH…
python -m PACKAGE.main resolve BASE
"""

from __future__ import annotations

import json
import random
import re
import socket
import sys
import time
import urllib.parse
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.dast.prober.checks import HTML, Issue, cors, issue
from pipeline.scan.dast.prober.exposed import folders_of, is_there, wanted
from pipeline.scan.dast.prober.html import Form, Page, inside, sitemap_of
from pipeline.scan.dast.prober.injections import inject, store
from pipeline.scan.dast.prober.inputs import Prober
from pipeline.scan.dast.prober.request import Input, Request, page_request
from pipeline.scan.dast.prober.wire import Client, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.scan.dast.prober.wire import Answer

ORIGIN: Final = "https://zq7v.invalid"
DESCRIPTION_BYTES: Final = 8 << 20
SAME_SHAPE: Final = 4  # pages of one route with the same inputs that are read
LEAVING: Final = re.compile(r"log-?out|sign-?out|delete|remove|destroy|unsubscribe|shutdown", re.IGNORECASE)
STATIC: Final = re.compile(
    r"\.(css|png|jpe?g|gif|svg|ico|woff2?|ttf|eot|mp4|webm|pdf|zip|gz)$", re.IGNORECASE
)


@dataclass(slots=True)
class Walk:
    """What was asked so far, and what is to be asked."""

    plan: dict[str, Any]
    client: Client
    prober: Prober
    operations: dict[str, Request]  # of the description, by name
    queue: list[Request] = field(default_factory=list)
    asked: dict[str, tuple[Request, Answer | None]] = field(default_factory=dict)  # by method and target
    shapes: dict[tuple[str, ...], int] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    stopped: str = ""
    left: int = 0  # pages that were found and not read
    stray: Answer | None = None  # the answer to an address that cannot be known

    @property
    def known(self) -> tuple[str, ...]:
        """The routes of the description."""
        return tuple(dict.fromkeys(one.route for one in self.operations.values()))

    def add(self, request: Request) -> None:
        """Queue a request unless there were enough of its kind."""
        key = f"{request.method} {request.target}"
        shape = (request.method, request.route, *sorted(one.name for one in request.inputs))
        excluded = any(re.search(one, request.path) for one in self.plan["exclude"])
        if key in self.asked or excluded or STATIC.search(request.path) or len(request.target) > 1000:
            return
        if request.method not in ("GET", "HEAD") and not self.plan["writes"]:
            return
        if LEAVING.search(request.target) and not request.answers:
            return
        if self.shapes.get(shape, 0) >= SAME_SHAPE:
            return
        if len(self.asked) >= self.plan["pages"]:
            self.left += 1
            return
        self.shapes[shape] = self.shapes.get(shape, 0) + 1
        self.asked[key] = (request, None)
        self.queue.append(request)

    def note(self, issues: Iterator[Issue]) -> None:
        """Keep what was seen."""
        self.issues += issues

    def crawl(self) -> None:
        """Ask everything that is known, and what the answers lead to."""
        while self.queue:
            request = self.queue.pop(0)
            answer = self.prober.send(request)
            self.asked[f"{request.method} {request.target}"] = (request, answer)
            if answer is None:
                continue
            self.note(self.prober.base(request, answer))
            for found in self.found_in(request, answer):
                self.add(found)

    def found_in(self, request: Request, answer: Answer) -> Iterator[Request]:
        """The requests that an answer leads to."""
        base = self.client.base
        links = [answer.header("location")] if answer.header("location") else []
        if answer.kind in HTML:
            page = Page(answer.text)
            links += page.links
            for form in page.forms:
                yield from self.form_request(request, form)
        elif request.path == "/robots.txt" and answer.status == 200:
            links += sitemap_of(answer.text)
        for link in links:
            if (target := inside(base, request.target, link)) is not None:
                yield self.described(page_request(target, self.known))

    def described(self, request: Request) -> Request:
        """A request found in a page, with what the description says of it: its values are real ones."""
        said = self.operations.get(request.name)
        if said is None or any(one.spot == "path" for one in said.inputs):
            return request
        kinds = {(one.spot, one.name): one.kind for one in said.inputs}
        inputs = tuple(replace(one, kind=kinds.get((one.spot, one.name), one.kind)) for one in request.inputs)
        return replace(request, inputs=inputs, answers=said.answers)

    def form_request(self, request: Request, form: Form) -> Iterator[Request]:
        """What a form would send, with something in each of its fields."""
        target = inside(self.client.base, request.target, form.action or request.target)
        if target is None:
            return
        to = page_request(target, self.known)
        spot: Any = "form" if form.method == "POST" else "query"
        fields = tuple(Input(spot=spot, name=name, value=value or "1") for name, value in form.fields.items())
        inputs = (*to.inputs, *(one for one in fields if one.name not in {each.name for each in to.inputs}))
        method = "POST" if form.method == "POST" else "GET"
        yield self.described(Request(method=method, route=to.route, path=to.path, inputs=inputs))

    def answered(self) -> list[tuple[Request, Answer]]:
        """What was answered, one for each kind of request."""
        found: dict[tuple[str, ...], tuple[Request, Answer]] = {}
        for request, answer in self.asked.values():
            if answer is None:
                continue
            key = (request.method, request.route, *sorted(one.name for one in request.inputs))
            # What a page links to comes later, and with values that are there.
            if key not in found or answer.status < 400:
                found[key] = (request, answer)
        return list(found.values())

    def is_own(self, request: Request, answer: Answer) -> bool:
        """Whether an answer says something: not an error, and not what every address is answered with."""
        if answer.status >= 400:
            return False
        if self.stray is None or self.stray.status >= 400:
            return True
        if 300 <= self.stray.status < 400:
            wall = place_of(self.stray)
            return request.path != wall and not (300 <= answer.status < 400 and place_of(answer) == wall)
        return self.stray.status != answer.status or self.stray.body != answer.body

    def look(self) -> None:
        """Everything, in the order of what it may disturb."""
        lost = random.Random(1).randrange(16**12)  # noqa: S311 - a name nobody has
        self.stray = self.client.send("GET", f"/zq7v-{lost:012x}")
        self.crawl()
        for request, _ in self.answered():
            if request.method == "GET" and request.path != "/robots.txt":
                self.cors(request)
        self.exposed()
        for request, answer in self.answered():
            self.note(self.prober.disturb(request, answer))
            self.malformed(request)
        if self.plan["active"]:
            pages = [request for request, answer in self.answered() if request.method == "GET"]
            writing = [request for request, _ in self.answered() if request.inputs]
            for request, answer in self.answered():
                self.note(inject(self.prober, request, answer))
            self.note(store(self.prober, writing, pages))

    def cors(self, request: Request) -> None:
        """Whom an answer lets read it."""
        for origin in (ORIGIN, "null"):
            answer = self.client.send("GET", request.target, {**request.headers, "Origin": origin})
            found = list(cors(request, answer, origin)) if answer is not None else []
            self.note(iter(found))
            if found or answer is None:
                return

    def exposed(self) -> None:
        """Files that should not be served."""
        self.listings()
        paths = [request.path for request, _ in self.asked.values()]
        for one in wanted(paths):
            answer = self.client.send("GET", one.path)
            if answer is None or not is_there(one, answer):
                continue
            if self.stray is not None and self.stray.body == answer.body:
                continue
            request = Request(method="GET", route=one.path, path=one.path)
            self.note(iter([issue(one.rule, request, "", f"{len(answer.body)} bytes of it")]))

    def listings(self) -> None:
        """The folders above what is known."""
        for folder in folders_of([request.path for request, _ in self.asked.values()]):
            request = Request(method="GET", route=folder, path=folder)
            if f"GET {folder}" not in self.asked and (answer := self.client.send("GET", folder)) is not None:
                self.note(one for one in self.prober.base(request, answer) if one.rule == "listing")

    def malformed(self, request: Request) -> None:
        """JSON that ends too early."""
        if not request.of("json"):
            return
        answer = self.client.send(request.method, request.target, request.headers, b'{"zq7v": ')
        if answer is not None and answer.status >= 500:
            self.note(self.prober.base(request, answer))


def place_of(answer: Answer) -> str:
    """The path that an answer leads to."""
    return urllib.parse.urlsplit(answer.header("location")).path


def request_of(one: dict[str, Any]) -> Request:
    """A request of the plan."""
    inputs = tuple(Input(**each) for each in one["inputs"])
    return Request(**{**one, "inputs": inputs})


def scan(plan: dict[str, Any]) -> dict[str, Any]:
    """Look at what the plan says."""
    client = Client(
        plan["base"], rate=plan["rate"], limit_s=plan["limit_s"], timeout_s=plan["request_timeout_s"]
    )
    requests = [request_of(one) for one in plan["requests"]]
    walk = Walk(plan, client, Prober(client, plan["description"]), {one.name: one for one in requests})
    for request in requests:
        walk.add(request)
    for path in (plan["start"], "/", "/robots.txt"):
        walk.add(page_request(path, walk.known))
    try:
        walk.look()
    except Stopped as error:
        walk.stopped = error.why
    client.close()
    asked = [one for one in walk.asked.values() if one[0].path != "/robots.txt"]
    statuses = [answer.status for _, answer in asked if answer is not None]
    return {
        "version": 1,
        "issues": [asdict(one) for one in walk.issues],
        "asked": [one.name for one, _ in asked],
        "missed": [f"{one.method} {one.target}" for one, answer in asked if answer is None],
        "left": walk.left,
        "own": sum(1 for one, answer in asked if answer is not None and walk.is_own(one, answer)),
        "statuses": statuses,
        "stray": walk.stray.status if walk.stray is not None else 0,
        "stray_place": place_of(walk.stray) if walk.stray is not None else "",
        "requests": client.count,
        "stopped": walk.stopped,
        "took_s": round(time.monotonic() - client.began, 3),
    }


def alive(base: str, path: str, within_s: float) -> dict[str, Any]:
    """Whether the service answers at all, asked until it does or the time is over."""
    client = Client(base, limit_s=within_s, timeout_s=min(5.0, within_s))
    began = time.monotonic()
    while True:
        try:
            answer = client.send("GET", path)
        except Stopped:
            return {"alive": False, "status": 0}
        if answer is not None:
            client.close()
            return {"alive": True, "status": answer.status}
        client.unanswered = 0
        if time.monotonic() - began > within_s:
            return {"alive": False, "status": 0}
        time.sleep(0.2)


def resolve(base: str) -> dict[str, Any]:
    """The addresses that the host's name stands for here; none where it is not known."""
    try:
        found = socket.getaddrinfo(urllib.parse.urlsplit(base).hostname, None, type=socket.SOCK_STREAM)
    except OSError:
        found = []
    return {"addresses": sorted({str(one[4][0]) for one in found})}


def describe(base: str, paths: list[str]) -> dict[str, Any]:
    """The first OpenAPI description among some paths; `said` is what was there instead."""
    client = Client(base, limit_s=30.0, most_bytes=DESCRIPTION_BYTES)
    said = []
    try:
        for path in paths:
            answer = client.send("GET", path)
            if answer is None or answer.status != 200:
                continue
            try:
                found = json.loads(answer.body)
            except ValueError:
                said.append(f"{path} is {answer.kind or 'something'}, not JSON")
                continue
            if isinstance(found, dict) and isinstance(found.get("paths"), dict):
                return {"path": path, "description": found, "said": ""}
            said.append(f"{path} is JSON without `paths`")
    except Stopped:
        said.append("nobody answers any more")
    finally:
        client.close()
    return {"path": "", "description": None, "said": "; ".join(said)}


def main(argv: list[str]) -> int:
    """Do one errand."""
    errand, *rest = argv
    if errand == "scan":
        with open(rest[0], encoding="utf-8") as file:
            plan = json.load(file)
        with open(rest[1], "w", encoding="utf-8") as file:
            json.dump(scan(plan), file)
        return 0
    if errand == "alive":
        told = alive(rest[0], rest[1], float(rest[2]))
    else:
        told = resolve(rest[0]) if errand == "resolve" else describe(rest[0], rest[1:])
    sys.stdout.write(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A small shop with one flaw of each kind V01 to V14, and routes that look alike and are sound.

Nothing it runs can do harm: its database is in memory, and its "shell" knows four commands.
"""

from __future__ import annotations

import html
import re
import sqlite3
import tempfile
import traceback
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import FastAPI, Form, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from pydantic import BaseModel

app = FastAPI(title="shop")
db = sqlite3.connect(":memory:", check_same_thread=False)
db.executescript(
    """
    create table goods (id integer primary key, name text, price integer);
    insert into goods values (1, 'lamp', 30), (2, 'chair', 70), (3, 'table', 120);
    """
)
remarks: list[str] = []
FILES = Path(tempfile.mkdtemp())
(FILES / "manual.txt").write_text("Plug it in.\n")
SAFE_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
TRUSTED = "https://shop.example.com"


class Good(BaseModel):
    """One thing that is sold."""

    id: Annotated[int, Query(ge=1)]
    name: str
    price: int


def page(text: str, **headers: str) -> HTMLResponse:
    """A page with the headers a page should have."""
    return HTMLResponse(f"<!doctype html><title>shop</title>{text}", headers={**SAFE_HEADERS, **headers})


@app.get("/", response_class=HTMLResponse)
def start() -> HTMLResponse:
    """Links to what a visitor would find."""
    links = (
        *(
            "/find?name=lamp",
            "/stock?good=1",
            "/hello?who=you",
            "/remarks",
            "/leave?to=/",
            "/manual?file=manual.txt",
        ),
        *(
            "/share?total=10&people=2",
            "/enter?user=me",
            "/ping?host=localhost",
            "/account",
            "/report?day=1",
            "/old",
        ),
        *("/safe/find?name=lamp", "/safe/hello?who=you", "/safe/leave?to=/", "/safe/manual?file=manual.txt"),
        *(
            "/safe/enter?user=me",
            "/safe/share?total=10&people=2",
            "/safe/account",
            "/safe/remarks",
            "/safe/stock?good=1",
        ),
    )
    return page("".join(f'<p><a href="{html.escape(link)}">{html.escape(link)}</a>' for link in links))


@app.get("/find")  # V01
def find(name: str) -> JSONResponse:
    """Goods of a name."""
    rows = db.execute(f"select id, name, price from goods where name = '{name}'").fetchall()  # noqa: S608
    return JSONResponse(rows)


@app.get("/stock")  # V02
def stock(good: str) -> JSONResponse:
    """Whether there is such a good."""
    try:
        row = db.execute(f"select id from goods where id = {good}").fetchone()  # noqa: S608
    except sqlite3.Error:
        row = None
    return JSONResponse({"there": row is not None})


@app.get("/hello", response_class=HTMLResponse)  # V03
def hello(who: str) -> HTMLResponse:
    """A greeting."""
    return page(f"<p>hello {who}")


@app.get("/remarks", response_class=HTMLResponse)  # V04
def show_remarks() -> HTMLResponse:
    """What visitors wrote."""
    form = '<form method="post" action="/remarks"><input name="text"><input type="submit"></form>'
    return page(form + "".join(f"<p>{one}" for one in remarks[-50:]))


@app.post("/remarks")
def add_remark(text: Annotated[str, Form()]) -> RedirectResponse:
    """Keep what a visitor wrote."""
    remarks.append(text)
    return RedirectResponse("/remarks", status_code=303)


@app.get("/leave")  # V05
def leave(to: str) -> RedirectResponse:
    """Go somewhere else."""
    return RedirectResponse(to)


@app.get("/manual")  # V06
def manual(file: str) -> PlainTextResponse:
    """A manual."""
    return PlainTextResponse((FILES / file).read_text())


@app.get("/share")  # V07
def share(total: int, people: int) -> dict[str, float]:
    """What each pays."""
    return {"each": total / people}


@app.get("/goods/{good}", response_model=None, responses={200: {"model": Good}})  # V08
def one_good(good: int) -> JSONResponse:
    """One good."""
    if good < 0:
        return JSONResponse({"id": "none", "name": None})
    return JSONResponse({"id": good + 1, "name": "lamp", "price": 30})


@app.get("/enter")  # V09
def enter(user: str) -> JSONResponse:
    """Begin a session."""
    answer = JSONResponse({"hello": user})
    answer.set_cookie("session", "8d2f1c7ab3e94560")
    return answer


@app.get("/ping", response_class=PlainTextResponse)  # V10
def ping(host: str) -> str:
    """Whether a machine answers."""
    return shell(f"ping -c 1 {host}")


def shell(line: str) -> str:
    """A stand-in for a shell: it says what `id`, `env` and `echo` would, and runs nothing."""
    said = []
    for command in re.split(r"[;&|\n`]|\$\(|\)", line):
        word, _, rest = command.strip().partition(" ")
        known = {"id": "uid=1000(shop) gid=1000(shop)", "env": "PATH=/usr/bin:/bin\nPWD=/srv", "echo": rest}
        said.append(known.get(word, ""))
    return "\n".join(said)


@app.get("/account")  # V11
def account(request: Request) -> JSONResponse:
    """Something for one's own page only."""
    origin = request.headers.get("origin", "")
    allowed = (
        {"access-control-allow-origin": origin, "access-control-allow-credentials": "true"} if origin else {}
    )
    return JSONResponse({"balance": 12}, headers=allowed)


@app.get("/report")  # V12
def report(day: str) -> PlainTextResponse:
    """The report of a day."""
    try:
        return PlainTextResponse(f"day {int(day)}")
    except ValueError:
        return PlainTextResponse(traceback.format_exc(), status_code=500)


@app.get("/old", response_class=HTMLResponse)  # V13
def old() -> HTMLResponse:
    """A page without any of the headers."""
    return HTMLResponse("<!doctype html><title>old</title><p>an old page")


@app.get("/.env", include_in_schema=False)  # V14
def env() -> PlainTextResponse:
    """A file that should not be here."""
    return PlainTextResponse("DEBUG=1\nSECRET_KEY=not-a-real-one-3f9a\nDATABASE_URL=sqlite://\n")


@app.get("/safe/find")
def safe_find(name: str) -> JSONResponse:
    """As `find`, with a bound value."""
    return JSONResponse(db.execute("select id, name, price from goods where name = ?", [name]).fetchall())


@app.get("/safe/stock")
def safe_stock(good: Annotated[int, Query(ge=0, le=1_000_000)]) -> dict[str, bool]:
    """As `stock`, with a number."""
    return {"there": db.execute("select id from goods where id = ?", [good]).fetchone() is not None}


@app.get("/safe/hello", response_class=HTMLResponse)
def safe_hello(who: str) -> HTMLResponse:
    """As `hello`, escaped."""
    return page(f"<p>hello {html.escape(who)}<input value='{html.escape(who)}'>")


@app.get("/safe/remarks", response_class=HTMLResponse)
def safe_remarks() -> HTMLResponse:
    """As `remarks`, escaped."""
    return page("".join(f"<p>{html.escape(one)}" for one in remarks[-50:]))


@app.get("/safe/leave")
def safe_leave(to: str) -> RedirectResponse:
    """As `leave`, to places of ours only."""
    parts = urlsplit(to)
    is_ours = (
        not parts.scheme and not parts.netloc and to.startswith("/") and not to.startswith(("//", "/\\"))
    )
    return RedirectResponse(to if is_ours else "/")


@app.get("/safe/manual")
def safe_manual(file: str) -> FileResponse:
    """As `manual`, from a list."""
    if file != "manual.txt":
        raise HTTPException(404)
    return FileResponse(FILES / file, headers={"x-content-type-options": "nosniff"})


@app.get("/safe/share")
def safe_share(total: int, people: Annotated[int, Query(ge=1)]) -> dict[str, int]:
    """As `share`, never by zero."""
    return {"each": total // people}


@app.get("/safe/enter")
def safe_enter(user: str) -> JSONResponse:
    """As `enter`, with the flags."""
    answer = JSONResponse({"hello": user})
    answer.set_cookie("session", "8d2f1c7ab3e94560", secure=True, httponly=True, samesite="lax")
    answer.set_cookie("theme", "dark", samesite="lax")
    return answer


@app.get("/safe/account")
def safe_account(request: Request) -> JSONResponse:
    """As `account`, for one trusted page."""
    is_trusted = request.headers.get("origin") == TRUSTED
    allowed = {"access-control-allow-origin": TRUSTED, "vary": "origin"} if is_trusted else {}
    return JSONResponse({"balance": 12}, headers=allowed)

"""Release notes: what people read first, in a form that no commit message can break."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from pipeline.release.commits import Change
from pipeline.release.notes import LONGEST, Story, changelog_section, plain, render_changelog, render_notes
from pipeline.release.remote import Web, web_of
from pipeline.release.sbom import Difference

SHA = "0123456789abcdef0123456789abcdef01234567"
PAGE = "example.org/a/b"
GITHUB = Web(address="https://github.com/ann/app", kind="github")


def change(text: str, kind: str = "feat", **more: object) -> Change:
    table = {"sha": SHA, "author": "Ann", "email": "ann@example.org", "type": kind, "text": text, **more}
    return Change(**table)  # type: ignore[arg-type]  # as the test says


def story(*changes: Change, **more: object) -> Story:
    table = {
        "tag": "v1.1.0",
        "previous": "v1.0.0",
        "date": "2026-01-02",
        "changes": changes,
        "known_authors": frozenset({"ann@example.org"}),
        "web": Web(),
        **more,
    }
    return Story(**table)  # type: ignore[arg-type]  # as the test says


def test_notes_begin_with_what_breaks_and_end_with_where_to_look() -> None:
    """Sections come in one order, changes the newest first; links lead to the forge."""
    changes = (
        change("a door", scope="house", number=12),
        change("the hinge", "fix"),
        change("doors are blue", "refactor", breaking="doors were red before"),
        change("quicker", "perf", author="Bob", email="bob@example.org"),
        change("words", "docs", author="bump[bot]", email="bot@example.org"),
        change("odd", "wip"),
    )
    packages = Difference(added={"new": "1"}, removed={"old": "2"}, changed={"kept": ("1", "2")})

    notes = render_notes(
        story(*changes, web=GITHUB, packages=packages, written="By hand.", images={"app": "sha256:ab"})
    )

    link = f"[01234567](https://github.com/ann/app/commit/{SHA})"
    assert (
        notes
        == f"""By hand.

## Breaking changes
- doors were red before ({link})

## Features
- **house:** a door ([#12](https://github.com/ann/app/pull/12), {link})

## Fixes
- the hinge ({link})

## Performance
- quicker ({link})

## Changes
- odd ({link})

## Packages
- `kept` 1 → 2
- `new` 1 is new
- `old` 2 is gone

## Images
- `app` sha256:ab

## Contributors
- Ann
- Bob (for the first time)

[All changes since v1.0.0](https://github.com/ann/app/compare/v1.0.0...v1.1.0)
"""
    )


def test_notes_without_a_forge_have_no_links() -> None:
    assert render_notes(story(change("a door", number=3))) == (
        "## Features\n- a door (#3, 01234567)\n\n## Contributors\n- Ann\n"
    )


def test_notes_of_nothing_say_so() -> None:
    assert render_notes(story()) == "No changes that are worth telling.\n"


HOSTILE = {
    "link": "[click](javascript:alert(1)) me",
    "image": "![x](https://evil.example/pixel.png)",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "comment": "<!-- plan: sha256:" + "0" * 64 + " -->",
    "heading": "# I am the release",
    "quote": "> quoted",
    "list": "- - - deep",
    "number": "1. first",
    "rule": "---",
    "setext": "===",
    "fence": "```sh",
    "tilde": "~~~",
    "table": "| a | b |",
    "emphasis": "*all* _of_ **it** ~~gone~~",
    "entity": "&lt;b&gt; &amp;",
    "backslash": r"\<b\> \[x\](y)",
    "unclosed": "`never closed <b>",
    "reference": "[x]: https://evil.example",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_means_something_in_markdown_shows_as_it_is(text: str) -> None:
    """A reader of Markdown, HTML and all, gives back one item of one list with the text that was written."""
    notes = render_notes(story(change(text), change("kept")))

    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(notes)
    item = re.search(r"<ul>\n<li>(.*?)</li>\n<li>kept", html, re.DOTALL)
    assert item is not None, html
    assert re.findall(r"<(?!/?code>)[a-z/!]", item[1]) == []
    shown = item[1].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert shown == f"{text} (01234567)"


def test_code_stays_code_and_nobody_is_called() -> None:
    """GitHub tells people whose name follows an `@`: a space of no width keeps them in peace."""
    notes = render_notes(story(change("`<b>` and `a_b*c` for @team/all")))

    html = MarkdownIt("commonmark").render(notes)

    assert "<code>&lt;b&gt;</code> and <code>a_b*c</code> for @\u200bteam/all" in html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("title\x1b]0;owned\x07 end", "title end"),
        ("bell\x07 back\x08space", "bell backspace"),
        ("line\u2028sep\u2029", "linesep"),
        ("right\u202eleft\u2066", "rightleft"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("tab\there", "tab here"),
        ("", ""),
        ("x" * 400, "x" * (LONGEST - 1) + "…"),
    ],
    ids=["colour", "title", "control", "lines", "bidi", "width", "tab", "empty", "long"],
)
def test_what_cannot_be_seen_is_taken_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_very_many_changes_are_counted() -> None:
    """The list stops at two hundred."""
    notes = render_notes(story(*(change(f"number {n}") for n in range(250))))

    assert notes.count("\n- number ") == 200
    assert "\n- and 50 more\n" in notes


def test_the_section_of_keep_a_changelog() -> None:
    changes = (
        change("a door"),
        change("the hinge", "fix", scope="house"),
        change("old", "chore", breaking="no red doors"),
        change("words", "docs"),
        change('Revert "x"', "revert"),
    )

    assert render_changelog(story(*changes), "1.1.0") == (
        "## [1.1.0] - 2026-01-02\n\n### Added\n- a door\n\n### Changed\n- **Breaking:** no red doors\n\n"
        '### Removed\n- Revert "x"\n\n### Fixed\n- **house:** the hinge\n'
    )


CHANGELOG = """# Changelog
## [Unreleased]
### Added
- A door.

## [1.0.0] - 2026-01-01
- The house.

[Unreleased]: https://example.org
"""


@pytest.mark.parametrize(
    ("version", "found"),
    [("1.1.0", "### Added\n- A door."), ("1.0.0", "- The house.")],
    ids=["not there yet", "there"],
)
def test_what_people_wrote_is_found(version: str, found: str) -> None:
    assert changelog_section(CHANGELOG, version) == found


def test_a_changelog_without_sections_says_nothing() -> None:
    assert changelog_section("# Changelog\nnothing\n", "1.0.0") == ""


@pytest.mark.parametrize(
    ("remote", "forge", "web"),
    [
        ("git@github.com:ann/app.git", "none", GITHUB),
        ("https://token@github.com/ann/app", "none", GITHUB),
        ("ssh://gitlab.example.org:22/a/b.git", "none", Web(address=f"https://gitlab.{PAGE}", kind="gitlab")),
        ("https://code.example.org/a/b", "gitlab", Web(address=f"https://code.{PAGE}", kind="gitlab")),
        ("https://code.example.org/a/b", "none", Web(address=f"https://code.{PAGE}")),
        ("/srv/app.git", "github", Web()),
    ],
    ids=["scp", "token", "gitlab", "told", "unknown", "path"],
)  # fmt: skip
def test_a_remote_tells_where_its_pages_are(remote: str, forge: str, web: Web) -> None:
    assert web_of(remote, forge) == web  # type: ignore[arg-type]  # the words of the settings


def test_pages_of_gitlab_lie_elsewhere() -> None:
    web = Web(address="https://gitlab.com/a/b", kind="gitlab")

    assert [web.commit(SHA), web.compare("v1", "v 2"), web.change(3)] == [
        f"https://gitlab.com/a/b/-/commit/{SHA}",
        "https://gitlab.com/a/b/-/compare/v1...v%202",
        "https://gitlab.com/a/b/-/merge_requests/3",
    ]

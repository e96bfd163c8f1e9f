"""The Moby pattern dialect, and include with exclude."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.patterns import (
    BadPattern,
    Decision,
    PatternMatcher,
    TreeFilter,
    parse_ignore_file,
)

MATCHES = [
    # Taken from the tests of the original matcher: pattern, path, whether it matches.
    ("**", "file", True),
    ("**", "file/", True),
    ("**/", "file", True),
    ("**/", "dir/file", True),
    ("**/**", "dir/file", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("**/dir", "dir", True),
    ("**/dir", "dir/file", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir/dir2/dir2/file", True),
    ("**file", "file", True),
    ("**file", "dir/file", True),
    ("**/file", "dir/file", True),
    ("**file", "dir/dir/file", True),
    ("**/file*", "dir/dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True),
    ("a**/*.txt", "a/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt", "a/file.txt", True),
    ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcdef", False),
    ("abc.def", "abc.def", True),
    ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True),
    ("abc?def", "abcdef", False),
    ("a\\\\", "a\\", True),
    ("**/foo/bar", "foo/bar", True),
    ("**/foo/bar", "dir/dir2/foo/bar", True),
    ("abc/**", "abc", False),
    ("abc/**", "abc/def/ghi", True),
    ("**/.foo", ".foo", True),
    ("**/.foo", "bar.foo", False),
    ("a(b)c/def", "a(b)c/def", True),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    ("*.rar", "a/b.rar", False),
    ("*.rar", "b.rar", True),
    ("dir", "dir/below/file", True),
    ("/dir/", "dir/file", True),
    ("  dir  ", "dir", True),
    ("a/../b", "b", True),
    ("a[]b", "a", None),
    ("[", "a", None),
    ("[-x]", "a", None),
    ("x\\", "a", None),
    ("!", "a", None),
    ("[^a]", "/", False),
    ("a\\*b", "a*b", True),
    ("a\\*b", "acb", False),
    ("ünï*", "ünïcode", True),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), MATCHES)
def test_a_pattern_matches_as_the_original_does(pattern: str, path: str, expected: bool | None) -> None:
    """None stands for a pattern that is refused."""
    if expected is None:
        with pytest.raises(BadPattern):
            PatternMatcher([pattern])
        return

    assert PatternMatcher([pattern]).matches(path.rstrip("/")) is expected


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["**", "!util/docker/web"], "util/docker/web/foo", False),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["docs", "!docs/README.md"], "docs/other.md", True),
        (["!docs/README.md", "docs"], "docs/README.md", True),
        (["*", "!a", "!b"], "b/c", False),
        (["docs/*", "!docs/keep"], "docs/keep/deep/file", False),
    ],
)
def test_the_last_pattern_that_matches_wins(patterns: list[str], path: str, expected: bool) -> None:
    assert PatternMatcher(patterns).matches(path) is expected


def test_the_refusal_of_a_pattern_says_which_and_why() -> None:
    with pytest.raises(BadPattern) as caught:
        PatternMatcher(["ok", "a[b"])

    assert str(caught.value) == "cannot use pattern `a[b`: `[b` is not closed"


def test_patterns_that_match_in_endless_ways_are_refused() -> None:
    """Two places where whole segments may follow half a name are enough for anybody."""
    assert PatternMatcher(["a**/b**/c"]).matches("ax/bx/c")
    with pytest.raises(BadPattern) as caught:
        PatternMatcher(["**/a" * 4])

    assert str(caught.value) == (
        "cannot use pattern `**/a**/a**/a**/a`: it has more than 2 `**/` that begin inside a name"
    )


def test_directories_are_pruned_only_where_nothing_can_match() -> None:
    matcher = PatternMatcher(["src/*/main.py", "docs/**/img", "x[ab]/y"])

    may = {
        path: matcher.may_match_below(path)
        for path in ("src", "src/app", "src/app/x", "docs", "docs/a/b", "xa", "xc", "lib")
    }

    assert may == {
        "src": True, "src/app": True, "src/app/x": False, "docs": True, "docs/a/b": True, "xa": True,
        "xc": False, "lib": False,
    }  # fmt: skip


_segments = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "?", "[ab]", "**b", "a**"])
_patterns = st.lists(st.lists(_segments, min_size=1, max_size=3).map("/".join), min_size=1, max_size=3)
_paths = st.lists(st.sampled_from(["a", "b", "ab", "c"]), min_size=1, max_size=4).map("/".join)


@given(_patterns, _paths)
def test_pruning_never_hides_a_match(patterns: list[str], path: str) -> None:
    """Every directory above a match either matches itself or may have a match below."""
    matcher = PatternMatcher(patterns)
    parts = path.split("/")
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]

    if matcher.matches(path):
        assert all(matcher.matches(directory) or matcher.may_match_below(directory) for directory in above)


@given(_patterns, st.lists(st.booleans(), min_size=3, max_size=3), _paths)
def test_judging_step_by_step_equals_judging_at_once(
    patterns: list[str], negated: list[bool], path: str
) -> None:
    """A walk, which hands flags down, keeps what `keeps` says of the whole path."""
    exclude = [("!" if flag else "") + text for text, flag in zip(patterns, negated, strict=False)]
    tree_filter = TreeFilter((), exclude)
    decision = Decision(True, True, tree_filter.decide("a").state)
    state = None
    parts = path.split("/")

    for depth in range(1, len(parts) + 1):
        here = "/".join(parts[:depth])
        decision = tree_filter.decide(here) if state is None else tree_filter.decide(here, state)
        state = decision.state

    assert decision.keep is tree_filter.keeps(path)


@pytest.mark.parametrize(
    ("include", "exclude", "path", "expected"),
    [
        (["src"], [], "src/a.py", True),
        (["src"], ["src/a.py"], "src/a.py", False),
        (["src", "!src/gen"], [], "src/gen/x", False),
        ([], ["**/*.pyc"], "a/b.pyc", False),
        (["*.txt"], ["!a.txt"], "a.txt", True),
    ],
)
def test_exclude_is_applied_after_include_and_wins(
    include: list[str], exclude: list[str], path: str, expected: bool
) -> None:
    assert TreeFilter(include, exclude).keeps(path) is expected


def test_an_ignore_file_is_read_without_comments_and_leading_slashes() -> None:
    text = "\ufeff# comment\n\n  /build/  \n!/build/keep\n ! spaced \n#also\n**/*.pyc\r\n.\n"

    patterns = parse_ignore_file(text)

    assert patterns == ("build", "!build/keep", "!spaced", "**/*.pyc")

"""Versions for tests: tables of our own, and random families of close relatives, where the order is hardest."""

from __future__ import annotations

from hypothesis import strategies as st

# Each line is in apk's order, oldest first; every pair in it is compared both ways.
ASCENDING = [
    "1 2 9 10 11 99 100",
    "0 0.0 0.0.0 0.0.1 0.1 1",
    "1.2 1.2.0 1.2.1 1.2.9 1.2.10 1.3",
    # A leading zero after a dot turns the comparison into one of text.
    "1.0 1.00 1.000 1.001 1.01 1.010 1.011 1.02 1.09 1.1 1.9 1.10",
    "1.0 1.0a 1.0b 1.0z 1.0.1",
    "1_alpha 1_alpha0 1_alpha1 1_alpha2 1_alpha10 1_beta 1_beta1 1_pre 1_pre3 1_rc 1_rc1 1",
    "1 1_cvs 1_svn 1_git 1_git20240101 1_hg 1_p 1_p1 1_p2 1_p10 1a 1.0",
    "1_rc_alpha 1_rc 1_rc1_alpha 1_rc1 1_rc1_git 1_rc1_p1 1_rc2 1_rc_p",
    "1.2_alpha1-r9 1.2-r0 1.2-r1 1.2-r10 1.2_p1-r0",
    "1.2 1.2-r0 1.2~1a 1.2~1a-r0 1.2~1a-r3 1.2~1ab 1.2~2 1.2_p1",
    "1.2a 1.2a-r1 1.2a~f 1.2a_git1 1.2b_alpha 1.2b 1.2b_p1",
    "1.2_p1 1.2_p1-r2 1.2_p1~ab 1.2_p1_p 1.2_p2",
    # The initial number is compared as a number even with leading zeros.
    "1 02 3",
    # What is not valid sorts up to where it stops being so, and below what is.
    "1_rc1 1.0+build 1.0 1.0bc 1.0b",
]

VALID = (
    "0 1 00 007 1.0 1.2.3.4.5.6.7 1a 1.2z 1_alpha 1_beta2 1_pre 1_rc10 1_cvs 1_svn5 1_git20240101 1_hg 1_p 1_p1 "
    "1.2b_rc1_git20240101 1_p1_p2_alpha 1~0 1~deadbeef 1.2_p3~0af 1-r0 1.2.3-r15 1a_p1~c-r2 "
    "99999999999999999999999999"
)

INVALID = (
    "a .1 1. 1..2 v1 v1.2.3 1.2.3-rc1 1.2.3rc1 1.2.3_rc.1 1.2.3+build 1.2.3_dev1 1.2.3ab 1.2.3A 1A 1a1 1a.2 _rc1 1_ "
    "1__p1 1_P1 1_alphabeta 1_p1.2 1_p1a 1~ 1~g 1~AB 1~a_p1 1~a~b 1~a.1 1-r 1-rc1 1-1 1-r1-r2 1-r1_p1 1-r1~a 1-r1.1 "
    "1-r1a 1,2 1:2 1/2 1=2 ١ 1.٢ 1ａ ſ"
)

_number = st.one_of(
    st.integers(0, 12).map(str), st.sampled_from(["00", "01", "010", "20240101", "18446744073709551617"])
)
_suffix = st.tuples(
    st.sampled_from(["alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"]),
    st.one_of(st.just(""), _number),
).map(lambda pair: f"_{pair[0]}{pair[1]}")

# Parts in the order of the grammar; a version is a number and any of them.
_parts = st.tuples(
    st.lists(_number.map(lambda text: f".{text}"), max_size=3).map("".join),
    st.one_of(st.just(""), st.sampled_from("abz")),
    st.lists(_suffix, max_size=3).map("".join),
    st.one_of(st.just(""), st.text(alphabet="09af", min_size=1, max_size=3).map(lambda text: f"~{text}")),
    st.one_of(st.just(""), _number.map(lambda text: f"-r{text}")),
)

valid_versions = st.tuples(_number, _parts).map(lambda pair: pair[0] + "".join(pair[1]))
"""Valid versions of every shape."""


@st.composite
def relatives(draw: st.DrawFn, count: int) -> list[str]:
    """Draw versions that share most of their parts."""
    number = draw(_number)
    parts = [list(draw(_parts))] * count
    family = []
    for own in parts:
        changed = list(own)
        if draw(st.booleans()):
            at = draw(st.integers(0, len(changed) - 1))
            changed[at] = draw(_parts)[at]
        family.append(number + "".join(changed))
    return family

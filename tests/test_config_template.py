import re
from datetime import datetime, timezone
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.config import expand
from centernetd.config.template import check

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


def test_expands_time_and_stream() -> None:
    path = expand("{stream}/%Y-%m-%d/%H-%M-%S.mp4", "gate", NOW)
    assert path == PurePosixPath("gate/2025-03-04/05-06-07.mp4")


def test_a_doubled_percent_sign_is_one() -> None:
    assert expand(check("100%%.mp4"), "gate", NOW) == PurePosixPath("100%.mp4")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "empty"),
        ("a\0b.mp4", "control"),
        ("/srv/a.mp4", "relative"),
        ("../a.mp4", "under storage.root"),
        ("a/../../b.mp4", "under storage.root"),
        ("a//b.mp4", "under storage.root"),
        ("a/", "under storage.root"),
        ("{name}.mp4", "only {stream}"),
        ("{stream.mp4", "only {stream}"),
        ("%c.mp4", "%c is not one of"),
        ("a%", "% is not one of"),
        ("{stream}" * 4, "more than 200 bytes"),
    ],
)
def test_refuses_what_is_no_path_under_the_root(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        check(template)


@given(st.text(st.sampled_from("ab./%{}YmdHMS{stream}-_ "), max_size=40))
def test_what_is_accepted_stays_under_the_root(template: str) -> None:
    try:
        check(template)
    except ValueError:
        return
    path = expand(template, "gate", NOW)
    assert not path.is_absolute()
    assert not {"..", "."} & set(path.parts)

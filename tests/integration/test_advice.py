"""What `pakman validate` says to write instead: a real shell takes it as it was meant."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from pakman import manifest
from tests.manifests import TODAY

MANIFEST = """\
stack: alpine/edge
build: {{destinations: [bin]}}
dependencies: {{runtime: [curl]}}
run:
  name: shop
  commands:
    - name: web
      {}
"""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("-p $PORT", "-p|8080|"),
        ("--url http://x/?a&b \"$PORT x\" '$PORT'", "--url|http://x/?a&b|8080 x|$PORT|"),
        ("one && echo two", "one|two\n"),
        ("one | tr o 0", "0ne|"),
        ("one >/dev/null", ""),
        ("$(echo a b)", "a|b|"),
        ("files/*.txt", "files/1.txt|files/2.txt|"),
    ],
)
def test_a_shell_does_what_the_call_meant(tmp_path: Path, call: str, said: str) -> None:
    file = tmp_path / "instellar.yml"
    file.write_text(MANIFEST.format("binary: show\n      call: " + yaml.safe_dump(call, width=1000).splitlines()[0]))
    (problem,) = manifest.read(file, repository="shop", today=TODAY).problems
    lines = problem.hint.partition("write:\n")[2].partition("\nor, ")[0]
    file.write_text(MANIFEST.format(lines.replace("\n", "\n      ")))
    better = manifest.read(file, repository="shop", today=TODAY)
    assert better.problems == ()
    assert better.manifest is not None
    assert better.manifest.run is not None
    (command,) = better.manifest.run.commands
    for name, content in [("bin/show", "#!/bin/sh\nprintf '%s|' \"$@\"\n"), ("files/1.txt", ""), ("files/2.txt", "")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    # As /var/lib/shop/bin/env-exec does: in the application's directory, with its environment.
    words = [f"{command.path}/{command.binary}", *shlex.split(command.call)]
    done = subprocess.run(
        words, cwd=tmp_path, env={"PORT": "8080", "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, check=False
    )
    assert done.stdout.decode() == said

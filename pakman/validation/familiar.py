"""Keys that people know from workflows, Compose files, Procfiles and package.json: what a manifest has instead."""

from __future__ import annotations

import shlex
from typing import Any

from pakman import stack
from pakman.validation import programs
from pakman.validation.yaml_tree import Node, shown


def hint(path: list[str | int], value: Any, root: Node) -> str | None:
    """Return what to write instead of the key at `path`; None for one that is not known from elsewhere."""
    *places, key = [part for part in path if isinstance(part, str)]
    place = ".".join(places)
    if place not in ("", "build", "run", "run.services", "run.commands"):
        return None
    if place in ("run.services", "run.commands") and (key in _PROGRAMS or key in _ARGUMENTS):
        return _item(places[1], key, value, root)
    if key in _PROCESSES + (_PROGRAMS if place == "run" else ()) and place in ("", "run"):
        # What a manifest of years ago had there are mappings.
        return None if isinstance(value, dict) and key in _OLD else _listed(key, value, root)
    if isinstance(value, dict) and key == "run":
        return None
    if key.lower() in _SCRIPTS:
        return "what builds the application is one script; write:\nbuild:\n  command: |\n" + _script(value)
    if key.lower() in _IMAGES:
        return f"what to build on is `stack`: {stack.known_names(stack.STACKS)}"
    found = next((text for words, text in _WORDS.items() if key.lower() in words.split()), None)
    return found and found.replace("NAME", _name(root))


_PROGRAMS = ("cmd", "command", "entrypoint", "exec", "process", "processes", "script", "start")
_PROCESSES = ("cmd", "entrypoint", "processes", "procfile", "start", "web", "worker")
_ARGUMENTS = ("arguments", "args", "call")
_SCRIPTS = ("before_script", "install", "make", "run", "script", "scripts", "steps")
_IMAGES = ("alpine", "base", "container", "from", "image", "os", "runs-on")
_OLD = ("command", "process", "start")
_WORDS = {
    "env environment env_file variables vars": "build.environment is for the build; what runs finds its environment in "
    "/etc/NAME/env on the machine, as KEY=VALUE lines",
    "expose listen port ports": "a service listens where it likes: if it reads PORT, write PORT=8080 into "
    "/etc/NAME/env on the machine; what the deployment service shows is `ports` of `kits`",
    "apk apt depends deps makedepends node packages python requirements ruby": "Alpine's packages are named in "
    "`dependencies`; write:\ndependencies:\n  build: [nodejs, npm]\n  runtime: [nodejs, curl]",
    "release version": "the version is the git tag's, or --package-version's: take it out",
    "artifacts dist files include output outputs paths": "what is packed is listed in build.destinations; write:\n"
    "build:\n  destinations: [dist]",
    "ignore": "what is not to be packed is listed in build.exclude",
    "arch platform platforms": "the machines to build for are `architectures`; write:\n"
    "architectures: [x86_64, aarch64]",
    "restart": "a service that dies is started again: take it out",
    "volumes": "what a service writes below /var/lib/NAME stays there when it is upgraded: take it out",
    "cwd workdir working_dir working_directory": "what runs begins in /var/lib/NAME: take it out",
    "jobs uses": "this is a key of GitHub's workflows, which are files in .github/workflows",
}
"""What to write, by the keys that mean it elsewhere."""


def _script(value: Any) -> str:
    """The lines of the user's own script, wherever they were written; a step of a workflow has them at `run`."""
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
    parts = [part.get("run") if isinstance(part, dict) else part for part in parts]
    lines = [shown(line) for part in parts if isinstance(part, str) for line in part.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[:20] or ["npm ci", "npm run build"])


def _name(root: Node) -> str:
    name = root.mapping("run").text("name")
    return shown(name.value) if name is not None else "NAME"


def _packed(root: Node) -> list[str]:
    return [node.value for _, node in root.mapping("build").items("destinations", str)]


def _listed(key: str, value: Any, root: Node) -> str:
    """The lines of `run.services` for one command line, or for one of each name as a Procfile has them."""
    processes = value if isinstance(value, dict) and value else {key if key in ("web", "worker") else "web": value}
    written = ["run:", "  services:"]
    for name, command in list(processes.items())[:3]:
        written += [f"    - name: {programs.scalar(shown(name))}"]
        written += [f"      {line}" for line in _lines("services", command, root).splitlines()]
    return "what runs is listed in run.services (and what is run by hand, in run.commands); write:\n" + "\n".join(
        written
    )


def _item(kind: str, key: str, value: Any, root: Node) -> str:
    if key in _PROGRAMS and not (isinstance(value, dict) and "call" in value):
        return "a program and its arguments are keys of their own; write:\n" + _lines(kind, value, root)
    call = programs.scalar(_text(value) or "serve")
    below = f"start:\n  call: {call}" if kind == "services" else f"call: {call}"
    return f"a program's arguments stand in {'.'.join(programs.START[kind])}; write:\n{below}"


def _lines(kind: str, value: Any, root: Node) -> str:
    command = _text(value).removeprefix("exec ")
    program, _, call = command.partition(" ")
    if "=" in program:  # NODE_ENV=production node server.js
        program, call = "sh", f"-c {shlex.quote(command)}"
    return programs.lines(program or "node", call or "" if program else "server.js", kind, _packed(root), _name(root))


def _text(value: Any) -> str:
    """Return a command line as text: it may be words, as in a Dockerfile, or below a key, as in a Compose file."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("call", "command", "cmd", "entrypoint", "run") if key in value), "")
    if isinstance(value, list):
        value = shlex.join(word for word in value if isinstance(word, str))
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if len(text) <= 200 and text.isprintable() else ""

"""The image, as far as it can be tried without a builder of images: linted, its steps run, its root read-only.

No image was built here. Each step of the Dockerfile is run as it stands, in an empty environment, on a copy of this
machine's root that is thrown away (an overlay in a mount namespace of its own); this Python stands for the base.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from tests.ops.dockerfile import Step, environment, stages
from tests.ops.test_dependencies import DECLARED, LOCK, PROJECT, TEXT

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = ROOT / "ops" / "docker" / "Dockerfile"
HADOLINT: Final = Path(sys.executable).with_name("hadolint")
LOCKS: Final = {name: (ROOT / "ops" / "docker" / f"{name}.lock").read_text("utf-8") for name in ("runtime", "build")}
BUILD, FINAL = stages(DOCKERFILE)
USER: Final = 10001


def hashes(lock: str) -> dict[str, set[str]]:
    """The hashes of each name and version."""
    found: dict[str, set[str]] = {}
    for part in re.split(r"\n(?=\S)", lock.strip()):
        found.setdefault(part.split(" ", 1)[0], set()).update(re.findall(r"sha256:\w+", part))
    return found


def names(lock: str) -> set[str]:
    return {name.partition("==")[0].lower() for name in hashes(lock)}


def needed(wanted: list[str]) -> set[str]:
    """The names of what is needed on this machine, with all that that needs."""
    found: set[str] = set()
    queue = [Requirement(one) for one in wanted]
    while queue:
        one = queue.pop()
        if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
            continue
        name = re.sub(r"[-_.]+", "-", one.name.lower())
        try:
            more = distribution(name).requires or []
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed here")
        new = [Requirement(text) for text in more]
        if name not in found:
            found.add(name)
            queue += [part for part in new if part.marker is None or part.marker.evaluate({"extra": ""})]
        queue += [
            part
            for extra in one.extras
            for part in new
            if part.marker is not None
            and part.marker.evaluate({"extra": extra})
            and re.sub(r"[-_.]+", "-", part.name.lower()) not in found
        ]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_the_images_locks_are_part_of_the_one_that_tests_run_on(lock: str) -> None:
    whole = hashes(LOCK)
    assert {name: found for name, found in hashes(LOCKS[lock]).items() if whole.get(name) != found} == {}
    assert "://" not in LOCKS[lock]


def test_an_image_has_all_that_the_service_needs_and_no_tools() -> None:
    extras = PROJECT["optional-dependencies"]
    formats = [*extras["avro"], *extras["protobuf"]]  # of venues whose records are mapped
    assert needed([*PROJECT["dependencies"], *formats]) - names(LOCKS["runtime"]) == set()
    tools = {Requirement(one).name.lower() for one in extras["dev"] if one not in formats}
    assert names(LOCKS["runtime"]) & tools == set()
    backend = re.findall(r'^requires = \["(.+)"\]$', TEXT, re.MULTILINE)
    assert needed(backend) == names(LOCKS["build"])
    assert len(DECLARED) > len(PROJECT["dependencies"])


@pytest.mark.skipif(not HADOLINT.exists(), reason="NO HADOLINT: nobody linted the Dockerfile; install the extra `dev`")
def test_the_linter_has_nothing_against_it() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_stays_is_not_root_and_says_how_it_is_ended() -> None:
    last = {step.name: step.rest for step in FINAL}
    assert last["USER"] == f"{USER}:{USER}"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["HEALTHCHECK"] == "NONE"
    assert last["ENTRYPOINT"] == '["feed"]'
    assert {step.rest for step in FINAL if step.name == "COPY"} == {"--from=build /opt/feed /opt/feed"}


def copied(step: Step) -> list[str]:
    """What a COPY takes from the project."""
    return [] if step.rest.startswith("--from") else step.words[:-1]


def sent(path: str) -> bool:
    """Whether a file of the project is sent to the builder: the last line that it matches decides."""
    found = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = path.split("/")
            above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
            tried = [*above, *parts] if "**/" in line else above
            if any(fnmatch.fnmatchcase(one, pattern) for one in tried):
                found = line.startswith("!")
    return found


def test_the_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    wanted = {source.rstrip("/") for step in BUILD if step.name == "COPY" for source in copied(step)}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    given = {path for path in listed if sent(path)}
    assert given == {path for path in listed if any(path == one or path.startswith(f"{one}/") for one in wanted)}
    assert not sent("feed/__pycache__/cli.cpython-311.pyc")
    assert not sent(".venv/bin/python")


# ---- its steps, run

PYTHON: Final = Path(sys.base_prefix) / "bin"
BASE_PATH: Final = f"{PYTHON}:/usr/local/bin:/usr/bin:/bin"


def mounted(at: str) -> str:
    """Shell: a copy of this machine's root at a folder."""
    return f"""
mkdir -p {at}.up {at}.work {at}
mount -t overlay overlay -o lowerdir=/,upperdir={at}.up,workdir={at}.work {at}
mount --rbind /dev {at}/dev
mount --rbind /proc {at}/proc
mount -t tmpfs tmpfs {at}/tmp
cat /etc/resolv.conf > $T/resolv && mount --bind $T/resolv {at}/etc/resolv.conf || true
chmod o+x {at}/root
"""


def inside(at: str, folder: str, env: dict[str, str], command: str, *, user: int = 0) -> str:
    """Shell: a command in that copy, with nothing in its environment but what is given."""
    given = " ".join(shlex.quote(f"{name}={value}") for name, value in env.items())
    line = f"cd {folder} && {command}"
    return f"chroot --userspec={user}:{user} {at} /usr/bin/env -i {given} /bin/sh -c {shlex.quote(line)}\n"


def script_of(stage: list[Step], at: str, *, built: str = "") -> str:
    """Shell: every step of a stage, as it stands."""
    lines, folder = [mounted(at)], "/"
    # how packages are reached is this machine's, as it would be that of whoever builds
    env = {"PATH": BASE_PATH, "HOME": "/root", **{name: os.environ[name] for name in os.environ if name[:4] == "PIP_"}}
    for step in stage:
        if step.name == "WORKDIR":
            folder = step.rest
            lines.append(f"mkdir -p {at}{folder}\n")
        elif step.name == "ENV":
            env.update(word.split("=", 1) for word in step.words)
        elif step.name == "COPY" and step.rest.startswith("--from"):
            source, aim = step.words[1:]
            lines.append(f"mkdir -p {at}{Path(aim).parent} && cp -a {built}{source} {at}{aim}\n")
        elif step.name == "COPY":
            *sources, aim = step.words
            lines += [f"mkdir -p {at}{folder}/{aim}\n", *(of_project(one, f"{at}{folder}/{aim}") for one in sources)]
        elif step.name == "RUN":
            lines.append(inside(at, folder, env, step.rest))
    return "".join(lines)


def of_project(source: str, aim: str) -> str:
    path = ROOT / source
    return f"cp -r {path}/. {aim}\n" if path.is_dir() else f"cp {path} {aim}\n"


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    head = f"set -eu\nT={folder}\nmount -t tmpfs tmpfs $T\n"
    command = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", head + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an image's commands say, of those that are tried in it; the image's own environment, user and folder."""
    folder_of = tmp_path_factory.mktemp
    if os.geteuid() != 0 or run_script(mounted("$T/a"), folder_of("try")).returncode:
        pytest.skip("NO OVERLAY: the steps of the Dockerfile were NOT run; needs root and overlayfs")
    env = environment(FINAL)
    env["PATH"] = env["PATH"] + f":{PYTHON}"
    folder = next(step.rest for step in FINAL if step.name == "WORKDIR")
    commands = {
        "version": "feed --version",
        "replay": "replay --version",
        "settings": "feed config check 2>&1",
        "write": "touch /opt/feed/x /var/lib/feed/x 2>&1 || true",
        "packages": "ls /opt/feed/lib/python3*/site-packages",
        "commands": "ls /opt/feed/bin",
        "compiled": "find /opt/feed -name cli.cpython*.pyc -path '*/feed/*'",
        "served": "feed serve --kafka 127.0.0.1:1 2>&1 || echo ended with $?",
        "recordings": "stat -c %u /recordings",
    }
    script = script_of(BUILD, "$T/build") + script_of(FINAL, "$T/final", built="$T/build")
    script += "mount -o remount,ro $T/final\n"
    for name, command in commands.items():
        script += f"echo '=== {name}'\n" + inside("$T/final", folder, env, command, user=USER)
    done = run_script(script, folder_of("image"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    parts = re.split(r"^=== (\w+)\n", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.slow
def test_what_its_steps_make_runs_on_a_root_that_cannot_be_written(tried: dict[str, str]) -> None:
    assert tried["version"] == tried["replay"] == f"{PROJECT['version']}\n"
    assert tried["settings"].startswith("the settings are good: 5 given")
    assert tried["write"].count("Read-only file system") == 2
    assert "no kafka broker answers at 127.0.0.1:1" in tried["served"]
    assert tried["served"].endswith("ended with 3\n")
    assert tried["recordings"] == f"{USER}\n"


@pytest.mark.slow
def test_what_its_steps_make_has_no_tools(tried: dict[str, str]) -> None:
    assert "aiokafka" in tried["packages"]
    assert re.findall(r"(?m)^(pip|setuptools|pytest|hatchling|ruff|mypy|uv|hypothesis)\b", tried["packages"]) == []
    assert {"feed", "replay", "python"} <= set(tried["commands"].split())
    assert re.findall(r"(?m)^(pip|pytest|hatchling|ruff|mypy|uv)\b", tried["commands"]) == []
    assert tried["compiled"].strip()  # or each start would compile it all again

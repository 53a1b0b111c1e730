"""A copy of the workspace that code is injected into, for compile-fail and dialling-ban.

It lies in the target folder and is built there too: the libraries from the registry
are the ones that the workspace's own build has checked, and nothing is built twice.
Files are written only where they differ: cargo goes by their times.
"""

import filecmp
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(ROOT, os.environ.get("CARGO_TARGET_DIR") or "target")
PLACE = TARGET / "injections"
COPY = PLACE / "workspace"
CRATES = COPY / "crates"
# One cargo run; the first one also builds every dependency.
TIMEOUT = 1800

# `[-forbidden-]{+allowed+}`, as git diff --word-diff writes it.
CHANGE = re.compile(r"\[-(.*?)-\]\{\+(.*?)\+\}", re.DOTALL)
# `//~ CODE word`, as rustc's own tests write it: this line is refused with CODE,
# in a message that has the word.
EXPECTED = re.compile(r"//~ (\S+)(?: (\S+))?$")


class Broken(Exception):
    """The table or the copy is at fault, not the code under test."""


def forbidden(text):
    return CHANGE.sub(r"\1", text)


def allowed(text):
    return re.sub(r" *//~.*", "", CHANGE.sub(r"\2", text))


def expected(text):
    """{(line, code): word or None} out of the annotations."""
    found = {}
    for number, line in enumerate(forbidden(text).splitlines(), 1):
        if note := EXPECTED.search(line.rstrip()):
            found[number, note[1]] = note[2]
    return found


def renew():
    """Makes the copy what the working tree is; the lock is held until the end."""
    PLACE.mkdir(parents=True, exist_ok=True)
    lock = open(PLACE / "lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    wanted = set()
    for name in ["Cargo.toml", "Cargo.lock", "clippy.toml", "rust-toolchain.toml", "crates"]:
        source = ROOT / name
        files = source.rglob("*") if source.is_dir() else [source]
        for file in files:
            if file.is_file():
                wanted.add(file.relative_to(ROOT))
    for path in [path for path in COPY.rglob("*") if path.is_file()]:
        if path.relative_to(COPY) not in wanted:
            path.unlink()
    for path in wanted:
        to = COPY / path
        if not (to.is_file() and filecmp.cmp(ROOT / path, to, shallow=False)):
            to.parent.mkdir(parents=True, exist_ok=True)
            # Not copy2: the time has to be that of the change.
            shutil.copyfile(ROOT / path, to)
    return lock


class Injection:
    """Modules appended to one crate of the copy; `with` takes them out again.

    `modules` holds (site, name, text): the file NAME.rs becomes a child of the
    module SITE ("" is lib.rs), which sees all that SITE sees and more. `manifest`
    is appended to the package's Cargo.toml. `attribute` stands before each module:
    by default its names and unused parts are nobody's business.
    """

    def __init__(self, package, modules, manifest="", attribute="#[allow(warnings)]"):
        self.crate = CRATES / package
        self.modules = modules
        self.manifest = manifest
        self.attribute = attribute
        self.before = {}
        self.new = []
        self.files = {}

    def __enter__(self):
        if self.manifest:
            for file in [COPY / "Cargo.lock", self.crate / "Cargo.toml"]:
                self.before[file] = file.read_text()
            with open(self.crate / "Cargo.toml", "a") as file:
                file.write(f"\n{self.manifest}")
        for site, name, text in self.modules:
            path = Path(*site.split("::")) if site else Path()
            parent = self.crate / "src" / (path.with_suffix(".rs") if site else "lib.rs")
            if not parent.is_file():
                raise Broken(f"{name}: there is no module {site}")
            if parent not in self.before:
                self.before[parent] = parent.read_text()
            with open(parent, "a") as file:
                file.write(f"\n{self.attribute}\nmod {name};\n")
            child = self.crate / "src" / path / f"{name}.rs"
            if child.exists():
                raise Broken(f"{name}: {child} exists")
            child.parent.mkdir(parents=True, exist_ok=True)
            child.write_text(text)
            self.new.append(child)
            self.files[str(child.relative_to(COPY))] = name
        return self

    def __exit__(self, *_):
        for file in self.new:
            file.unlink()
        for path, text in self.before.items():
            path.write_text(text)


def cargo(command, package, arguments=("--offline", "--locked")):
    """Runs cargo on a package's library; returns its exit code and the compiler's messages."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    environment.pop("CLIPPY_CONF_DIR", None)
    run = subprocess.run(
        ["cargo", command, "-p", package, "--lib", "--message-format=json", *arguments],
        cwd=COPY, env=environment, capture_output=True, text=True, timeout=TIMEOUT,
    )
    messages, compiled = [], False
    for line in run.stdout.splitlines():
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        if entry["reason"] == "compiler-message":
            messages.append(entry["message"])
        elif entry["reason"] == "compiler-artifact" and not entry["fresh"]:
            compiled |= Path(entry["manifest_path"]) == CRATES / package / "Cargo.toml"
    if run.returncode and not any(message["level"] == "error" for message in messages):
        raise Broken(f"cargo {command} did not run:\n{run.stderr.strip()}")
    return run.returncode, messages, compiled


def located(message):
    """(file, line) of a message's first primary span, or nothing for a summary.

    Inside a macro of a library it is the place where the macro is used.
    """
    for span in message["spans"]:
        if span["is_primary"]:
            while span["expansion"] and not (COPY / span["file_name"]).is_relative_to(CRATES):
                span = span["expansion"]["span"]
            return os.path.relpath(COPY / span["file_name"], COPY), span["line_start"]
    return None


def errors(messages):
    """(file, line, code, text) of each error; the closing summary is none."""
    found = []
    for message in messages:
        if message["level"] != "error":
            continue
        code = (message["code"] or {}).get("code")
        place = located(message)
        if code is None and place is None and message["message"].startswith("aborting due to"):
            continue
        file, line = place or ("?", 0)
        found.append((file, line, code, message["message"]))
    return found


def words(found):
    return "\n".join(f"      {file}:{line}: {code}: {text}" for file, line, code, text in found)


def main(script):
    try:
        sys.exit(script())
    except Broken as broken:
        sys.exit(f"broken: {broken}")
    except subprocess.TimeoutExpired as late:
        sys.exit(f"broken: {' '.join(late.cmd)} did not end in {TIMEOUT} s")

"""The container files without an engine: what they name exists, and the commands they hold run on this machine.

`make lint` holds them to the published Compose schema and to hadolint's rules. Here is what neither can know: this
repository, and what an engine refuses although the schema takes it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parent.parent
DOCKER = REPO / "docker"
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def instructions():
    """Instructions of the Dockerfile in order, as (name, arguments); comments and line continuations resolved."""
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def arguments(name):
    return [rest for instruction, rest in instructions() if instruction == name]


def command_of(service):
    """What a service's container runs: its own entrypoint and command, else the image's."""
    entrypoint = service.get("entrypoint") or json.loads(arguments("ENTRYPOINT")[0])
    default = [] if "entrypoint" in service else json.loads(arguments("CMD")[0])
    return [*entrypoint, *service.get("command", default)]


def native(command, data):
    """The same command on this machine: the image's folders are the repository and `data`."""
    places = {"/opt/cspbench": str(REPO), "/data": str(data)}
    moved = [re.sub("|".join(places), lambda found: places[found.group()], word) for word in command[1:]]
    return [str(BIN / command[0]), *moved]


def test_the_base_image_is_pinned_to_a_python_we_support():
    (base,) = arguments("FROM")
    version = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-[a-z]+", base)
    assert version, f"{base} does not name a patch release and a distribution"
    least = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert tuple(map(int, version.groups())) >= tuple(map(int, least.groups()))


def test_what_is_copied_exists_and_reaches_the_builder():
    rules = (DOCKER / "Dockerfile.dockerignore").read_text().split()
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    for line in arguments("COPY"):
        *sources, _ = line.split()
        for source in sources:
            assert (REPO / source).exists(), f"COPY {source}: no such file"
            assert any(fnmatch.fnmatch(source, rule) for rule in allowed), f"{source} is kept from the builder"


def test_all_that_the_package_is_built_from_is_copied():
    copied = {source for line in arguments("COPY") for source in line.split()[:-1]}
    sources = {"pyproject.toml", "CMakeLists.txt", "constraints.txt", "cspbench"}
    assert {*sources, PROJECT["readme"], *PROJECT["license-files"]} <= copied


def test_packages_are_constrained_and_the_extras_exist():
    (install,) = [line for line in arguments("RUN") if "pip install" in line]
    words = shlex.split(install)
    assert words[words.index("-c") + 1] == "constraints.txt"
    extras = re.search(r"\.\[([a-z,]+)\]", install).group(1).split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert {"cluster", "synthesis"} <= set(extras)
    assert any("[sweep" in requirement for requirement in PROJECT["optional-dependencies"]["cluster"])


def test_the_container_does_not_run_as_root():
    names = [name for name, _ in instructions()]
    assert int(arguments("USER")[-1]) > 0  # by number: an orchestrator does not know names
    assert "RUN" not in names[names.index("USER") :]
    assert f"--uid {arguments('USER')[-1]} " in " ".join(arguments("RUN"))


def test_the_image_runs_a_command_that_exists_on_a_file_that_exists():
    (program,) = json.loads(arguments("ENTRYPOINT")[0])
    assert program in PROJECT["scripts"]
    command, file = json.loads(arguments("CMD")[0])
    assert subprocess.run([BIN / program, command, "--help"], capture_output=True, check=False).returncode == 0
    assert Path(native(["", file], "/nowhere")[1]).is_file()


def test_durations_and_restart_policies_are_what_the_engine_reads():
    """The published schema, which `make lint` checks, takes any text here; the engine does not."""
    duration = re.compile(r"([0-9]+(ms|s|m|h))+")
    for service in SERVICES.values():
        assert service.get("restart", "no") in ("no", "always", "on-failure", "unless-stopped")
        assert isinstance(service["init"], bool)
        check = service.get("healthcheck", {"test": ["CMD"], "retries": 1})
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert isinstance(check["retries"], int)
        texts = [service.get("stop_grace_period"), *(check.get(key) for key in ("interval", "timeout", "start_period"))]
        assert all(duration.fullmatch(text) for text in texts if text is not None)


def test_what_compose_names_exists():
    for service in SERVICES.values():
        if "build" in service:
            context = (DOCKER / service["build"]["context"]).resolve()
            assert context == REPO
            assert (context / service["build"]["dockerfile"]).is_file()
        for mount in service["volumes"]:
            volume, _, inside = mount.partition(":")
            assert volume in COMPOSE["volumes"]
            assert any(inside in line for line in arguments("RUN")), f"{inside} would belong to root"
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[name]
    assert len({service["image"] for service in SERVICES.values()}) == 1


def test_ports_are_published_on_the_loopback_address_alone():
    assert SERVICES["ui"]["ports"] == ["127.0.0.1:5000:5000"]
    assert not any("ports" in service for name, service in SERVICES.items() if name != "ui")
    command = SERVICES["ui"]["command"]
    assert command[command.index("--host") + 1] == "0.0.0.0"  # or nothing could be published
    assert command[command.index("--port") + 1] == "5000"


def test_both_services_use_the_same_results_and_no_privileges():
    assert SERVICES["ui"]["volumes"] == SERVICES["sweep"]["volumes"] == ["runs:/data/runs"]
    assert command_of(SERVICES["sweep"]) == [*json.loads(arguments("ENTRYPOINT")[0]), *json.loads(arguments("CMD")[0])]
    for service in SERVICES.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The container's /data, with what the image makes in it."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "runs" / "mlflow").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def environment():
    names = (word for line in arguments("ENV") for word in shlex.split(line))
    return os.environ | dict(name.split("=", 1) for name in names) | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def ui(data, environment):
    """The UI's own command, on a free port of the loopback address; yields its address once it is healthy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = native(command_of(SERVICES["ui"]), data)
    command = ["127.0.0.1" if word == "0.0.0.0" else port if word == "5000" else word for word in command]
    check = [sys.executable, *(word.replace("5000", port) for word in SERVICES["ui"]["healthcheck"]["test"][2:])]
    log = data / "ui.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=data, env=environment, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 240
        while subprocess.run(check, capture_output=True, check=False).returncode:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"never healthy:\n{log.read_text()}"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def ask(address, path, **query):
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{path}", json.dumps(query).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_commands_run_natively_and_the_ui_sees_the_sweep(data, environment, ui, fsdd_path):
    """As in the compose file: the UI is up on a fresh volume, then the sweep runs into the same one."""
    config = {
        "name": "container",
        "corpus": {"name": "fsdd", "path": str(fsdd_path), "options": {"train": 16, "dev": 4, "test": 4}},
        "model": {"preset": "tiny"},
        "dense": {"epochs": 1},
        "prune": {"epochs": 1},
        "sparsity": [0.5],
        "methods": ["magnitude"],
        "latency": {"utterances": 1, "warmup": 0, "repeats": 1},
    }
    (data / "tiny.yaml").write_text(yaml.safe_dump(config))
    *command, _ = native(command_of(SERVICES["sweep"]), data)
    done = subprocess.run(
        [*command, "tiny.yaml"], cwd=data, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "magnitude" in done.stdout
    experiments = ask(ui, "experiments/search", max_results=10)["experiments"]
    (experiment,) = [each["experiment_id"] for each in experiments if each["name"] == "container"]
    runs = ask(ui, "runs/search", experiment_ids=[experiment])["runs"]
    # The sweep, its dense model, its control and its trial.
    assert sorted(run["info"]["status"] for run in runs) == ["FINISHED"] * 4
    children = [run for run in runs if any(tag["key"] == "mlflow.parentRunId" for tag in run["data"]["tags"])]
    assert len(children) == 3
    for child in children:
        assert any("wer" in metric["key"] for metric in child["data"]["metrics"])
        assert ask_artifacts(ui, child["info"]["run_id"]), "the UI does not see the trial's files"


def ask_artifacts(address, run):
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/artifacts/list?run_id={run}", timeout=60) as answer:
        return json.load(answer).get("files", [])

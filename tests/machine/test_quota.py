"""CPU quotas are those of the process's own control group and of all around it, in both versions of the interface."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspbench.errors import ConfigError
from cspbench.machine import cpu
from cspbench.machine.quota import control_groups, cpu_quota

V1 = "7:memory:/other\n3:cpu,cpuacct:{group}\n1:name=systemd:/\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc"


def mount_v1(proc: Path, root: str = "/") -> Path:
    place = proc.parent / "sys fs" / "cpu"  # mountinfo writes a space as \040
    place.mkdir(parents=True)
    escaped = str(place).replace(" ", r"\040")
    lines = [
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
        f"32 31 0:29 {root} {escaped} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
        f"33 31 0:30 / {proc.parent}/memory rw,relatime - cgroup cgroup rw,memory",
    ]
    (proc / "mountinfo").write_text("\n".join(lines) + "\n")
    return place


def mount_v2(proc: Path) -> Path:
    place = proc.parent / "unified"
    place.mkdir()
    (proc / "mountinfo").write_text(f"30 23 0:26 / {place} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
    return place


def limit_v1(folder: Path, quota: int, periods: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.stat").write_text(periods)


def limit_v2(folder: Path, words: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{words}\n")
    (folder / "cpu.stat").write_text("usage_usec 12\nnr_periods 330\nnr_throttled 308\nthrottled_usec 99\n")


def test_v1_takes_the_least_of_nested_groups(proc: Path) -> None:
    place = mount_v1(proc)
    (proc / "cgroup").write_text(V1.format(group="/user/job"))
    limit_v1(place, -1)
    limit_v1(place / "user", 50_000)
    limit_v1(place / "user" / "job", 150_000)
    assert cpu_quota(proc) == 0.5
    limit_v1(place / "user", -1)
    assert cpu_quota(proc) == 1.5
    limit_v1(place / "user" / "job", -1)
    assert cpu_quota(proc) is None


def test_v1_in_a_container_that_sees_its_own_group_as_the_root(proc: Path) -> None:
    place = mount_v1(proc, root="/docker/abc")
    limit_v1(place, 200_000)
    limit_v1(place / "job", 100_000, "nr_periods 10\nnr_throttled 4\nthrottled_time 5\n")
    (proc / "cgroup").write_text(V1.format(group="/docker/abc/job"))
    assert cpu_quota(proc) == 1.0
    assert [group.periods for group in control_groups(proc)] == [(10, 4), (0, 0)]
    (proc / "cgroup").write_text(V1.format(group="/"))  # a namespace of its own
    assert cpu_quota(proc) == 2.0


def test_v2_takes_the_least_of_nested_groups(proc: Path) -> None:
    place = mount_v2(proc)
    (proc / "cgroup").write_text("0::/a.slice/b.scope\n")
    limit_v2(place / "a.slice", "200000 100000")
    limit_v2(place / "a.slice" / "b.scope", "max 100000")
    assert cpu_quota(proc) == 2.0
    assert control_groups(proc)[0].periods == (330, 308)


def test_a_system_without_control_groups_has_no_quota(proc: Path) -> None:
    assert control_groups(proc) == []
    assert cpu_quota(proc) is None


def test_threads_stay_within_processors_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "allowed_processors", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(cpu, "cpu_quota", lambda: None)
    assert cpu.usable_threads() == 4
    cpu.check_threads(4)
    with pytest.raises(ConfigError, match="99 threads cannot run at a time here: this process may use 4 processors"):
        cpu.check_threads(99)
    for quota, most in ((2.5, 2), (0.5, 1), (8.0, 4)):
        monkeypatch.setattr(cpu, "cpu_quota", lambda quota=quota: quota)
        assert cpu.usable_threads() == most
    monkeypatch.setattr(cpu, "cpu_quota", lambda: 0.5)
    with pytest.raises(ConfigError, match=r"the CPU quota of its control group is 0\.5; ask for 1 at most"):
        cpu.check_threads(2)

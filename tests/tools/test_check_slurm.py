"""Cut off the check under a real Slurm, with stand-ins for Slurm's programs, and look for what runs on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/check_slurm.py"
# Each writes the number of its process; the daemon's step runs on in a session of its own, as slurmstepd does.
DAEMON = "#!/bin/sh\necho $$ > {folder}/$(basename $0).pid\nexec sleep 300\n"
SLURMD = "#!/bin/sh\nsetsid sh -c 'echo $$ > {folder}/step.pid; exec sleep 300' &\n" + DAEMON[len("#!/bin/sh\n") :]


def running(file):
    return Path(f"/proc/{file.read_text().strip()}").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes below /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_runs_on_when_the_check_is_cut_off(tmp_path, number):
    for name in ("munged", "slurmctld", "slurmd", "srun", "scancel", "squeue"):
        program = tmp_path / name
        program.write_text((SLURMD if name == "slurmd" else DAEMON).format(folder=tmp_path))
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    check = subprocess.Popen([sys.executable, TOOL], env=environment)
    files = [tmp_path / f"{name}.pid" for name in ("munged", "slurmctld", "slurmd", "step", "srun")]
    try:
        until = time.monotonic() + 120
        while not all(file.exists() and file.read_text().strip() for file in files):
            assert time.monotonic() < until and check.poll() is None
            time.sleep(0.1)
        assert all(map(running, files))
        check.send_signal(number)
        check.send_signal(number)
        assert check.wait(60) == 128 + number
        assert [file.stem for file in files if running(file)] == []
        assert list(tmp_path.glob("slurm-*")) == []
    finally:
        check.kill()
        for file in filter(Path.exists, files):
            if running(file):
                os.kill(int(file.read_text()), signal.SIGKILL)

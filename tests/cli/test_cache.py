import subprocess
import sys

from scorecam_jax.cli import main, system
from tests.cli.toy import scorecam

KEEP = """
import jax
from scorecam_jax.cli.system import keep_compiled_programs
keep_compiled_programs()
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x + 1)(1.0)
"""


def kept(environment):
    done = subprocess.run(
        [sys.executable, "-c", KEEP],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_programs_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    import os

    folder = kept(dict(os.environ))
    assert folder.startswith(str(tmp_path / "scorecam_jax"))
    assert os.listdir(folder)
    assert kept(os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}) == str(tmp_path)


def test_the_cache_can_be_declined(monkeypatch, here):
    asked = []
    monkeypatch.setattr(system, "keep_compiled_programs", lambda: asked.append(True))
    assert scorecam("explain", "gone.png") == 1
    assert asked == [True]
    assert scorecam("explain", "gone.png", "--no-cache") == 1
    assert asked == [True]
    assert not main.parser().parse_args(["evaluate", "x", "--no-cache"]).cache


def test_bench_never_uses_the_cache():
    """It tells how long compiling takes."""
    assert "cache" not in main.parser().parse_args(["bench"])

"""What is fetched from a hub on this machine, and what is said when that fails."""

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc

import pytest

from scorecam_jax.models.checkpoints import hub
from tests.models.checkpoints.hub_server import COMMIT, Repository, serving

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

WEIGHTS = b"these are weights" * 100
TIMM = {"config.json": b'{"architecture": "resnet18"}', "model.safetensors": WEIGHTS}
TRANSFORMERS = {
    "config.json": b"{}",
    "preprocessor_config.json": b"{}",
    "model.safetensors": WEIGHTS,
}
SHARD = "model-00001-of-00001.safetensors"
INDEX = b'{"weight_map": {"a": "%s"}}' % SHARD.encode()
SHARDED = {"config.json": b"{}", "model.safetensors.index.json": INDEX}
REPOSITORIES = {
    "google/sharded": Repository({**SHARDED, SHARD: WEIGHTS}),
    "google/lacking": Repository(SHARDED),
    "timm/good": Repository({**TIMM, "pytorch_model.bin": b"a program", "README.md": b"..."}),
    "google/good": Repository(TRANSFORMERS),
    "timm/cut": Repository(TIMM, fault="cut"),
    "timm/altered": Repository(TIMM, fault="altered"),
    "timm/pickled": Repository({"config.json": b"{}", "pytorch_model.bin": b"a program"}),
}
LATER = ["hf://timm/good", "hf://timm/none"]
# One process for all addresses, because huggingface_hub reads its settings when it is imported.
PROGRAM = """
import json, sys
from scorecam_jax.models.checkpoints.hub import fetched

def told(address):
    try:
        files = fetched(address)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {file.name: file.read_bytes().hex() for file in files.files}

print(json.dumps({address: told(address) for address in sys.argv[1:]}))
"""


def fetched_in_a_process(addresses, **environment):
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *addresses],
        env={**cleared, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What came of each address, what the server was asked for, and what is known without it."""
    home = str(tmp_path_factory.mktemp("home"))
    addresses = [f"hf://{name}" for name in REPOSITORIES]
    addresses += ["hf://timm/none", "hf://timm/good@nowhere", f"hf://timm/good@{COMMIT}"]
    with serving(REPOSITORIES) as (endpoint, asked):
        online = fetched_in_a_process(addresses, HF_HOME=home, HF_ENDPOINT=endpoint)
        offline = fetched_in_a_process(
            LATER, HF_HOME=home, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1"
        )
    return online, asked, offline


def test_weights_and_configuration_are_fetched_and_nothing_else(answers):
    online, asked, _ = answers
    expected = {name: content.hex() for name, content in TIMM.items()}
    assert online["hf://timm/good"] == online[f"hf://timm/good@{COMMIT}"] == expected
    fetched = [path for path in asked if path.startswith("/timm/good/")]
    assert len(fetched) == 2  # once for both, since the cache has the commit
    assert not any("bin" in path or "README" in path for path in fetched)
    expected = {name: content.hex() for name, content in TRANSFORMERS.items()}
    assert online["hf://google/good"] == expected
    expected = {name: content.hex() for name, content in {**SHARDED, SHARD: WEIGHTS}.items()}
    assert online["hf://google/sharded"] == expected


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("hf://timm/cut", "OSError: could not fetch model.safetensors of hf://timm/cut"),
        ("hf://timm/cut", "could not fetch"),
        ("hf://timm/cut", "Try again"),
        ("hf://timm/altered", "is damaged: its hash is"),
        ("hf://timm/altered", "Delete "),
        ("hf://timm/pickled", "has no model.safetensors"),
        ("hf://google/lacking", f"has no {SHARD}, which its model.safetensors.index.json names"),
        ("hf://timm/none", "there is no hf://timm/none on the Hugging Face Hub, or it is private"),
        ("hf://timm/good@nowhere", "timm/good has no revision 'nowhere'"),
    ],
)
def test_what_goes_wrong_is_said(answers, address, complaint):
    assert complaint in answers[0][address]["error"]


def assert_known_from_the_cache(found, online):
    assert found["hf://timm/good"] == online["hf://timm/good"]
    assert "cannot reach the Hugging Face Hub" in found["hf://timm/none"]["error"]
    assert "not in the cache" in found["hf://timm/none"]["error"]


def test_offline_the_cache_is_taken(answers):
    online, _, offline = answers
    assert_known_from_the_cache(offline, online)


@pytest.mark.slow  # huggingface_hub tries several times
def test_without_a_connection_the_cache_is_taken(tmp_path):
    with serving(REPOSITORIES) as (endpoint, _):
        where = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint}
        online = fetched_in_a_process(["hf://timm/good"], **where)
    assert_known_from_the_cache(fetched_in_a_process(LATER, **where), online)


@pytest.mark.parametrize("text", ["hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://a/b c"])
def test_addresses_of_another_form_are_refused(text):
    with pytest.raises(ValueError, match="hf://OWNER/NAME@REVISION"):
        hub.parsed(text)


def test_a_files_hash_is_that_of_its_whole_content_and_only_a_part_is_in_memory(tmp_path):
    # As `git hash-object` states it for these six bytes.
    small = tmp_path / "ce013625030ba8dba906f756967f9e9ca394464a"
    small.write_bytes(b"hello\n")
    zeros = bytes(2**24)
    large = tmp_path / hashlib.sha256(zeros).hexdigest()
    large.write_bytes(zeros)
    address = hub.parsed("hf://a/b")
    tracemalloc.start()
    for path in (small, large):
        hub._check(path, address)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    for path in (small, large):
        path.write_bytes(path.read_bytes() + b".")
        with pytest.raises(ValueError, match=f"damaged: its hash is .* wanted {path.name}"):
            hub._check(path, address)


def test_a_path_is_no_address(tmp_path):
    assert not hub.is_address(tmp_path)
    assert not hub.is_address("hf:/timm/x")
    assert str(hub.parsed("hf://a/b@v1.0")) == "hf://a/b@v1.0"

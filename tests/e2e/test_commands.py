"""The commands as such: help, the reference page, doctor, show, and what they say when misused."""
import pytest

from conftest import ROOT

COMMANDS = ["serve", "up", "join", "token", "nodes", "explain", "plan", "calibrate", "run", "chat",
            "infer", "ps", "stop", "bench", "pull", "import", "list", "show", "cp", "rm",
            "tokenize", "keys", "usage", "sim", "doctor", "debug", "help", "version"]


def test_help_lists_every_command(starlane):
    listed = [line.split()[0] for line in starlane.text("help").splitlines()
              if line.startswith("  ")]
    assert listed[:len(COMMANDS)] == COMMANDS
    assert starlane.text("--help") == starlane.text("help")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_each_command(starlane, command):
    text = starlane.text("help", command)
    assert text.startswith(f"Usage: starlane {command} [options]")
    assert text == starlane.text(command, "--help")
    assert max(map(len, text.splitlines())) <= 100


def test_reference_page_is_current(starlane):
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert starlane.text("help", "--reference") == page, \
        "build/starlane help --reference > docs/cli.md"


def test_version(starlane):
    version = starlane.json("version", "--json")["version"]
    assert starlane.text("--version") == f"starlane {version}\n"


def test_unknown_command_suggests_the_nearest(starlane):
    assert "did you mean run?" in starlane.error("runn", expect=2)
    assert "did you mean tokenize?" in starlane.error("help", "tokenise", expect=2)
    assert "did you mean serve?" in starlane.error("sevre", expect=2)
    assert "starlane help" in starlane.error("frobnicate", expect=2)
    assert "starlane help" in starlane.error(expect=2)


@pytest.mark.parametrize("arguments, words", [
    (["run"], "MODEL"),
    (["run", "starling", "a", "b"], 'unexpected argument "b"'),
    (["run", "starling", "a", "--tmp", "1"], "did you mean --temp?"),
    (["run", "starling", "a", "--temp", "hot"], "not a number"),
    (["run", "starling", "a", "--max-tokens", "-1"], "out of range"),
    (["run", "starling", "a", "--kv", "q4"], "not one of f16, q8_0, f32"),
    (["run", "starling", "a", "--stages", "60"], "60"),
    (["bench", "starling", "-b", "1,x"], "not a whole number"),
    (["debug", "weights", "starling"], "there are: logits, template"),
    (["debug", "logits", "starling"], "--tokens and --out"),
    (["debug", "logits", "starling", "--tokens", "1,", "--out", "/dev/null"], "byte 2"),
    (["debug", "logits", "starling", "--tokens", "4096", "--out", "/dev/null"], "vocabulary"),
    (["doctor", "now"], "unexpected argument"),
    (["serve", "--port", "65536"], "out of range"),
    (["serve", "--tls-cert", "a.pem"], "--tls-key"),
    (["serve", "--host", "0.0.0.0"], "--insecure"),
    (["serve", "--class", "urgent"], "interactive"),
    (["up", "--policy", "nearest"], "least-work"),
    (["chat"], "MODEL"),
    (["stop"], "MODEL"),
    (["pull"], "MODEL"),
    (["import"], "PATH"),
    (["cp", "starling"], "NAME"),
    (["rm"], "which model?"),
    (["keys"], "create"),
    (["keys", "create"], "--name"),
    (["keys", "create", "--name", "a", "--expires", "soon"], "--expires"),
    (["usage", "--by", "colour"], "endpoint"),
    (["show", "/"], "folder"),
])
def test_misuse_is_one_line_and_status_2(starlane, arguments, words):
    assert words in starlane.error(*arguments, expect=2)


def test_doctor(starlane, tmp_path):
    found = starlane.json("doctor", "--json")
    assert found["home"] == str(tmp_path / "home")
    assert found["cpu"]["usable"] >= 1 and found["cpu"]["kernels"]
    assert found["cpu"]["products"] != "amx" or found["cpu"]["amx_problem"] is None
    assert 0 < found["memory"]["available_bytes"] <= found["memory"]["total_bytes"]
    bandwidth = found["memory"]["read_bandwidth"]
    assert bandwidth is None or bandwidth["one_thread_gbps"] > 0
    assert "CPU" in [device["name"] for device in found["devices"]]
    assert set(found["backends"]) >= {"cuda", "hip", "cann", "musa", "vulkan", "sycl"}
    assert found["telemetry"]["cpus"] > 0
    assert set(found["telemetry"]["libraries"]) == {"nvidia", "amd", "ascend"}
    text = starlane.text("doctor")
    assert found["cpu"]["model"] in text and "GB/s" in text
    amx = found["cpu"]["amx_problem"] or "works"
    assert f"{found['cpu']['products']} (AMX {amx})" in text
    environment = {"STARLANE_KERNELS": "off"}
    assert "ggml (AMX" in starlane.text("doctor", environment=environment)


def test_doctor_without_cpu_plugin_says_where_it_looked(starlane, tmp_path):
    done = starlane.call("doctor", environment={"STARLANE_BACKEND_DIR": str(tmp_path)}, expect=1)
    assert str(tmp_path).encode() in done.stdout


def test_show(starlane, stories):
    shown = starlane.json("show", stories, "--json", "--tensors")
    assert shown["runs"] and shown["architecture"]["name"] == "llama"
    assert shown["architecture"]["layers"] == 5
    assert shown["bytes"] == stories.stat().st_size
    assert shown["metadata"]["general.architecture"] == "llama"
    assert shown["metadata"]["tokenizer.ggml.tokens"]["length"] == \
        shown["tokenizer"]["vocabulary"] == 512
    assert sum(tensor["bytes"] for tensor in shown["tensors"]) == shown["tensor_bytes"]
    assert sum(kind["parameters"] for kind in shown["types"]) == shown["parameters"]
    text = starlane.text("show", stories, "--tensors")
    assert "llama" in text and "blk.4.ffn_down.weight" in text


def test_show_of_the_bundled_model(starlane):
    shown = starlane.json("show", "starling", "--json")
    assert 5e6 <= shown["parameters"] <= 15e6 and shown["bytes"] <= 12e6
    assert shown["architecture"]["name"] == "llama"


def test_bundled_model_that_is_not_there(starlane, tmp_path):
    line = starlane.error("run", "starling", "a", expect=1,
                          environment={"STARLANE_MODELS": str(tmp_path)})
    assert str(tmp_path) in line and "starling.gguf" in line

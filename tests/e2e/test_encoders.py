"""Text encoders of the ONNX engine behind the APIs: /v1/embeddings, /v1/rerank, the Open Inference
Protocol, and the lists of models."""
import math

import pytest

from encoder_files import ROWS, WEIGHTS, make_cross_encoder, make_encoder
from oip import outputs, send_infer, tensor
from service import Service


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory):
    from conftest import Starlane  # pylint: disable=import-outside-toplevel
    folder = tmp_path_factory.mktemp("encoders")
    starlane = Starlane(folder / "home")
    starlane.call("import", make_encoder(folder / "encoder"), "--name", "encoder:1")
    starlane.call("import", make_cross_encoder(folder / "cross"), "--name", "cross")
    with Service(starlane) as service:
        if "ONNX Runtime" in service.post("/v1/embeddings", {"model": "encoder", "input": "sun"},
                                          expect=None).text:
            pytest.skip("no ONNX Runtime here")
        yield service


def unit(*words):
    """The mean of the words' rows (and of [CLS] and [SEP], which are zeros), of length 1."""
    sums = [sum(ROWS[word][i] for word in words) for i in range(2)]
    length = math.hypot(*sums)
    return [value / length for value in sums]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def close(found, expected):
    return all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(found, expected, strict=True))


def test_embeddings(service):
    answer = service.post("/v1/embeddings", {"model": "encoder", "input": [
        "sun", "sun moon star", "sky"]}).json
    assert close(answer["data"][0]["embedding"], unit("sun"))
    assert close(answer["data"][1]["embedding"], unit("sun", "moon", "star"))
    assert close(answer["data"][2]["embedding"], unit("sky"))
    assert answer["usage"]["prompt_tokens"] == 3 + 5 + 3
    short = service.post("/v1/embeddings", {"model": "encoder", "input": "sun moon",
                                            "dimensions": 1}).json
    assert close(short["data"][0]["embedding"], [1.0])


def test_a_model_that_ranks_reads_pairs(service):
    documents = ["sky", "sun", "moon star", "moon"]
    answer = service.post("/v1/rerank", {"model": "cross", "query": "sun",
                                         "documents": documents}).json
    expected = {i: sigmoid(WEIGHTS["sun"] + sum(WEIGHTS[word] for word in text.split()))
                for i, text in enumerate(documents)}
    assert [result["index"] for result in answer["results"]] == [1, 3, 2, 0]
    for result in answer["results"]:
        assert math.isclose(result["relevance_score"], expected[result["index"]], abs_tol=1e-6)
    assert answer["usage"]["prompt_tokens"] == sum(
        len(["CLS", "sun", "SEP", *text.split(), "SEP"]) for text in documents)


def test_a_model_that_embeds_ranks_by_cosine(service):
    answer = service.post("/v1/rerank", {"model": "encoder", "query": "sun", "top_n": 2,
                                         "documents": ["sky", "star", "sun"]}).json
    assert [result["index"] for result in answer["results"]] == [2, 1]
    assert close([result["relevance_score"] for result in answer["results"]],
                 [1.0, unit("star")[0]])


def test_a_model_that_ranks_does_not_embed(service):
    error = service.post("/v1/embeddings", {"model": "cross", "input": "sun"}, expect=400).error
    assert error["code"] == "unsupported_by_model"


def test_tokens(service):
    assert service.post("/tokenize", {"model": "encoder", "prompt": "sun sky"}).json["tokens"] == \
        [2, 4, 7, 3]


def test_texts_and_tensors_over_the_open_inference_protocol(service):
    path = "/v2/models/encoder/versions/1"
    found = outputs(send_infer(service, path, {"inputs": [
        tensor("text", "BYTES", [2], ["sun moon", "sky"])]}))
    datatype, shape, values = found["embedding"]
    assert (datatype, shape) == ("FP32", [2, 2])
    assert close(values, [*unit("sun", "moon"), *unit("sky")])
    found = outputs(send_infer(service, path, {"inputs": [
        tensor("input_ids", "INT64", [1, 3], [[4, 5, 7]])]}))
    assert found == {"last_hidden_state": ("FP32", [1, 3, 2], [4.0, 0.0, 0.0, 3.0, -4.0, 3.0])}


def test_metadata(service):
    document = service.get("/v2/models/encoder").json
    assert document == {
        "name": "encoder", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}],
        "outputs": [{"name": "last_hidden_state", "datatype": "FP32", "shape": [-1, -1, 2]}]}
    config = service.get("/v2/models/encoder/config").json
    assert config["platform"] == "onnxruntime_onnx" and config["backend"] == "onnxruntime"
    assert config["input"][0]["data_type"] == "TYPE_INT64" and config["version"] == "1"


@pytest.mark.parametrize("inputs, fields, message", [
    ([], {}, "input_ids"),
    ([tensor("input_ids", "INT32", [1, 1], [4])], {}, "INT64"),
    ([tensor("input_ids", "INT64", [1], [4])], {}, "[-1,-1]"),
    ([tensor("input_ids", "INT64", [1, 1], [4]), tensor("x", "INT8", [1], [1])], {}, '"x"'),
    ([tensor("input_ids", "INT64", [1, 1], [4])], {"outputs": [{"name": "z"}]}, '"z"'),
    ([tensor("input_ids", "INT64", [1, 1], [99])], {}, "")])
def test_what_the_model_does_not_take(service, inputs, fields, message):
    request = {"inputs": inputs, **fields}
    answer = send_infer(service, "/v2/models/encoder", request, expect=400)
    assert message in answer.json["error"]
    assert outputs(send_infer(service, "/v2/models/encoder", {"inputs": [
        tensor("input_ids", "INT64", [1, 1], [4])]}))


def test_models_are_listed(service):
    ids = [model["id"] for model in service.get("/v1/models").json["data"]]
    assert "encoder:1" in ids and "cross:latest" in ids
    tags = {model["name"]: model for model in service.get("/api/tags").json["models"]}
    assert tags["encoder:1"]["details"]["format"] == "onnx"
    shown = service.post("/api/show", {"model": "encoder:1"}).json
    assert shown["details"]["format"] == "onnx" and shown["capabilities"] == ["embedding"]
    index = service.post("/v2/repository/index", {}).json
    assert {"name": "encoder", "version": "1", "state": "READY", "reason": ""} in index


@pytest.mark.parametrize("path, body", [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ("/v1/completions", {"prompt": "a"})])
def test_it_writes_no_text(service, path, body):
    error = service.post(path, {"model": "encoder", **body}, expect=400).error
    assert error["code"] == "unsupported_by_model"
    assert service.post("/v2/models/encoder/generate", {"text_input": "a"},
                        expect=400).json["error"]

"""POST /v1/rerank and /rerank, in Jina's shape, with models that only embed. Models that rank are
tried with the encoders of the ONNX engine."""
import math

import pytest

from service import wait_for

DOCUMENTS = ["The sun is hot.", "A cat sat on the mat.", "Cats and dogs play.", "Numbers add up."]
QUERY = "a cat"


def rerank(service, path="/v1/rerank", expect=200, **fields):
    body = {"model": "starling", "query": QUERY, "documents": DOCUMENTS, **fields}
    return service.post(path, body, expect=expect)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_scores_are_cosines_best_first(starling_service, path):
    document = rerank(starling_service, path).json
    assert set(document) == {"model", "object", "usage", "results"}
    assert (document["model"], document["object"]) == ("starling", "list")
    vectors = [entry["embedding"] for entry in starling_service.post(
        "/v1/embeddings", {"model": "starling", "input": [QUERY, *DOCUMENTS]}).json["data"]]
    expected = {i: cosine(vectors[0], vector) for i, vector in enumerate(vectors[1:])}
    results = document["results"]
    assert [result["index"] for result in results] == \
        sorted(expected, key=expected.get, reverse=True)
    for result in results:
        assert set(result) == {"index", "relevance_score", "document"}
        assert math.isclose(result["relevance_score"], expected[result["index"]], abs_tol=1e-6)
        assert result["document"] == {"text": DOCUMENTS[result["index"]]}
    usage = document["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] > len(DOCUMENTS)


def test_the_best_alone_and_without_their_texts(starling_service):
    whole = rerank(starling_service).json["results"]
    short = rerank(starling_service, top_n=2, return_documents=False).json["results"]
    assert short == [{name: result[name] for name in ("index", "relevance_score")}
                     for result in whole[:2]]
    assert rerank(starling_service, top_n=99).json["results"] == whole
    assert rerank(starling_service, top_n=None, return_documents=None).json["results"] == whole


def test_documents_may_be_objects(starling_service):
    objects = [{"text": text, "title": "ignored"} for text in DOCUMENTS[:2]]
    mixed = rerank(starling_service, documents=[*objects, *DOCUMENTS[2:]]).json
    assert mixed == rerank(starling_service).json


def test_equal_documents_keep_their_order(starling_service):
    results = rerank(starling_service, documents=["same"] * 50).json["results"]
    assert [result["index"] for result in results] == list(range(50))


@pytest.mark.parametrize("fields, param", [
    ({"model": None}, "model"), ({"model": 5}, "model"),
    ({"query": None}, "query"), ({"query": ""}, "query"), ({"query": ["a"]}, "query"),
    ({"documents": None}, "documents"), ({"documents": []}, "documents"),
    ({"documents": "text"}, "documents"), ({"documents": ["a", ""]}, "documents"),
    ({"documents": ["a", 5]}, "documents"), ({"documents": [{"txt": "a"}]}, "documents"),
    ({"documents": ["a"] * 2048}, "documents"),
    ({"top_n": 0}, "top_n"), ({"top_n": "1"}, "top_n"),
])
def test_a_bad_field_is_named(starling_service, fields, param):
    error = rerank(starling_service, expect=400, **fields).error
    assert error["param"] == param and error["message"].startswith(param)


def test_a_model_that_is_not_there(starling_service):
    assert rerank(starling_service, model="nope", expect=404).error["code"] == "model_not_found"


def test_a_text_over_the_context_is_refused(starling_service):
    error = rerank(starling_service, documents=["short", "word " * 40000], expect=400).error
    assert error["code"] == "context_length_exceeded"
    assert rerank(starling_service).json["results"], "and the service goes on"


def test_usage_is_counted(serve):
    service = serve("starling", "--threads", 1)
    tokens = rerank(service).json["usage"]["prompt_tokens"]
    assert service.metric("starlane_prompt_tokens_total", "starling:latest") == tokens
    wait_for(lambda: service.metric("starlane_usage_rows_stored_total") >= 1, "the row")

"""ONNX's own operator tests (905 tiny models, each with inputs and the outputs of the reference
implementation) through the gRPC face of a service: every model is imported, loaded in a worker of
its own, asked with raw tensors, and let go. Datatypes and shapes must be the very same; values as
near as ONNX's own test runner wants them, whole numbers and texts exact.

What the library under the service (ONNX Runtime 1.28, CPU) does not support stands in LACKING,
with what it says. A test fails when anything else fails, or when something of this begins to pass.
"""
import collections
import concurrent.futures
import re
import time

import grpc
import numpy
import pytest

from conftest import ROOT, Starlane
from grpc_client import DEADLINE_S, LARGE, Schema, Stub
from onnx_data import Tensor, graph_inputs, numbered, operators, unpack_archive
from service import Service

SERVICE = "inference.GRPCInferenceService"
N_TESTS = 905
N_PASSING = 840
AT_ONCE = 4
"""Models at a time: two for each core of a small machine, as starting a process is not all
computing."""

RELATIVE, ABSOLUTE = 1e-3, 1e-7
"""ONNX's own runner compares so."""

WIDER = {"test_dft": 1e-3, "test_dft_axis": 1e-3, "test_dft_inverse": 1e-4, "test_stft": 2e-4,
         "test_stft_with_window": 2e-4}
"""Absolute tolerances where terms as large as 450 cancel to 0 in float32."""

DATATYPES = {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
             "FP16", "BF16", "FP32", "FP64", "BYTES"}

NOT_TENSORS = {"identity_opt", "identity_sequence", "loop13_seq", "loop16_seq_none",
               "optional_get_element_sequence", "sequence_insert_at_back",
               "sequence_insert_at_front", "sequence_map_add_1_sequence_1_tensor",
               "sequence_map_add_1_sequence_1_tensor_expanded", "sequence_map_add_2_sequences",
               "sequence_map_add_2_sequences_expanded", "sequence_map_extract_shapes",
               "sequence_map_extract_shapes_expanded", "sequence_map_identity_1_sequence",
               "sequence_map_identity_1_sequence_1_tensor",
               "sequence_map_identity_1_sequence_1_tensor_expanded",
               "sequence_map_identity_1_sequence_expanded", "sequence_map_identity_2_sequences",
               "sequence_map_identity_2_sequences_expanded"}
"""An input is a sequence or optional: the protocol has no such thing, the import refuses them."""

LACKING = [
    ("only tensors are served", "if_opt if_seq"),
    # operators that the release without training lacks
    ("not a registered function/op", "adagrad adagrad_multiple adam adam_multiple momentum "
     "momentum_multiple nesterov_momentum"),
    # newer than the library
    ("till opset 26", "celu celu_expanded range_float_type_positive_delta "
     "range_float_type_positive_delta_expanded range_int32_type_negative_delta "
     "range_int32_type_negative_delta_expanded"),
    # no kernel for this version or type on the CPU
    (r"implementation for RandomUniformLike\(22\)", "bernoulli bernoulli_double "
     "bernoulli_double_expanded bernoulli_expanded bernoulli_seed bernoulli_seed_expanded"),
    (r"implementation for RoiAlign\(22\)", "roialign_aligned_false roialign_aligned_true"),
    (r"implementation for BitShift\(11\)", "bitshift_left_uint16 bitshift_right_uint16"),
    (r"implementation for M(ax|in)\(13\)", "max_int16 max_uint16 min_int16 min_uint16"),
    (r"implementation for Pow\(15\)", "pow_types_float32_uint32 pow_types_float32_uint64"),
    # kernels that do not know an attribute or a shape
    ("Batchwise recurrent operations", "gru_batchwise lstm_batchwise simple_rnn_batchwise"),
    ("Non per-tensor quantization", "convinteger_with_padding"),
    # random numbers: which elements are dropped
    ("differs", "training_dropout training_dropout_default training_dropout_default_mask "
     "training_dropout_mask"),
    # other results than the reference's; ONNX Runtime's own tests leave these out
    ("differs", "maxunpool_export_with_output_shape resize_downsample_scales_cubic_align_corners "
     "resize_downsample_scales_linear_align_corners"),
]

LOCALE = {"strnormalizer_export_monday_casesensintive_lower",
          "strnormalizer_export_monday_casesensintive_upper",
          "strnormalizer_export_monday_empty_output",
          "strnormalizer_export_monday_insensintive_upper_twodim"}
"""They need the machine to have the locale en_US.UTF-8."""


class Case:
    """One folder of the archive."""

    def __init__(self, folder):
        self.folder = folder
        self.name = folder.name.removeprefix("test_")
        model = (folder / "model.onnx").read_bytes()
        self.input_names, self.operators = graph_inputs(model), operators(model)
        data = folder / "test_data_set_0"
        self.inputs = [Tensor.read(path) for path in numbered(data, "input")]
        self.outputs = [Tensor.read(path) for path in numbered(data, "output")]

    @property
    def model(self):
        """The name that the import gives it: names are in lower case."""
        return self.folder.name.lower()

    def request(self, schema):
        inputs = [{"name": name, "datatype": tensor.datatype, "shape": tensor.shape}
                  for name, tensor in zip(self.input_names, self.inputs)]
        return schema.message("inference.ModelInferRequest", model_name=self.model, inputs=inputs,
                              raw_input_contents=[tensor.raw for tensor in self.inputs])

    def compare(self, answer):
        """What is wrong with it; nothing when all is right."""
        given = [Tensor(output.name, output.datatype, output.shape, raw)
                 for output, raw in zip(answer.outputs, answer.raw_output_contents)]
        if len(given) != len(self.outputs):
            return f"{len(given)} outputs, not {len(self.outputs)}"
        return "; ".join(filter(None, map(self.compare_one, given, self.outputs)))

    def compare_one(self, given, wanted):
        if (given.datatype, given.shape) != (wanted.datatype, wanted.shape):
            return f"{given.datatype} {given.shape}, not {wanted.datatype} {wanted.shape}"
        if not wanted.datatype.startswith(("FP", "BF")):
            same = (given.array() == wanted.array()).all()
        else:
            same = numpy.allclose(given.array().astype(float), wanted.array().astype(float),
                                  RELATIVE, WIDER.get(self.folder.name, ABSOLUTE), equal_nan=True)
        return "" if same else f"{given.name} differs: {given.array()}, not {wanted.array()}"


def ask(stub, schema, case):
    """"" when all is right, else what is wrong."""
    unload = schema.message("inference.RepositoryModelUnloadRequest", model_name=case.model)
    try:
        answer = stub.ModelInfer(case.request(schema), timeout=DEADLINE_S)
        stub.RepositoryModelUnload(unload, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return case.compare(answer)


Run = collections.namedtuple("Run", "cases outcomes left_out")


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
    """All of it, once."""
    folder = tmp_path_factory.mktemp("operators")
    tests = unpack_archive("onnx-node-1.23-common.tar.gz", folder) / "node"
    starlane = Starlane(folder / "home")
    started = time.monotonic()
    left_out = starlane.call("import", tests, expect=1).stderr.decode()
    imported = time.monotonic()
    cases = {path.name.removeprefix("test_"): path for path in tests.iterdir()}
    cases = {name: Case(path) for name, path in cases.items() if name not in NOT_TENSORS}
    schema = Schema.compile(ROOT, "proto/open_inference.proto")
    with Service(starlane, "--threads", 1) as service, \
            grpc.insecure_channel("%s:%d" % service.address, LARGE) as channel, \
            concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        stub = Stub(channel, schema, SERVICE)
        outcomes = dict(zip(cases, pool.map(lambda case: ask(stub, schema, case), cases.values())))
        assert service.metric("starlane_worker_crashes_total") == 0
    print(f"{N_TESTS} models imported in {imported - started:.1f} s, {len(cases)} loaded and "
          f"asked in {time.monotonic() - imported:.1f} s")
    return Run(cases, outcomes, left_out)


def test_models_that_take_no_tensors_are_left_out_of_the_import(run):
    named = set(re.findall(r"test_(\w+):latest left out: \S+: input \"\w+\": an? "
                           r"(?:sequence|optional); requests bring tensors", run.left_out))
    assert named == NOT_TENSORS and len(run.cases) == N_TESTS - len(NOT_TENSORS)


def lacking():
    return {name: words for words, names in LACKING for name in names.split()}


def test_every_operator_gives_what_the_reference_gives(run):
    wrong = {name: outcome for name, outcome in run.outcomes.items()
             if outcome and name not in lacking() and name not in LOCALE}
    assert not wrong
    passed = [name for name, outcome in run.outcomes.items() if not outcome]
    assert len(set(passed) - LOCALE) == N_PASSING
    used = set().union(*(run.cases[name].operators for name in passed))
    print(f"{len(passed)} of {N_TESTS} passed, of {len(used)} operators")
    types = {tensor.datatype for name in passed
             for tensor in run.cases[name].inputs + run.cases[name].outputs}
    assert types == DATATYPES


@pytest.mark.parametrize("words, names", LACKING)
def test_what_the_library_lacks_is_told_in_its_words(run, words, names):
    for name in names.split():
        outcome = run.outcomes[name]
        assert re.search(words, outcome), (name, outcome)
        assert "/home/" not in outcome, "no path of the server's"
        if words != "differs":
            # What cannot be loaded is the model's fault, what cannot be run the request's.
            assert outcome.startswith(("UNAVAILABLE: ", "INVALID_ARGUMENT: ")), outcome


def test_texts_are_normalised_where_the_locale_is_there(run):
    for name in LOCALE:
        assert not run.outcomes[name] or "locale with name:en_US.UTF-8" in run.outcomes[name]

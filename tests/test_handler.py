"""handler.py as Inference Endpoints use it: loaded from the model's folder, called with what a request's body holds."""

import configparser
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from zeroshot.hub.handler import EndpointHandler
from zeroshot.hub.handler_files import REQUIREMENTS, build_handler_files
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .conftest import LABELS, TEXTS
from .process_helpers import read_result, run_apart

ROOT = Path(__file__).resolve().parents[1]
SERVER = """
import importlib.util, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
folder, root, texts, labels = json.loads(sys.argv[1])
sys.path = [path for path in sys.path if path not in ("", root)]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__ + repr(finder)]
assert importlib.util.find_spec("zeroshot") is None, "the package must not be importable here"
# As the server of Inference Endpoints does it: the folder first on the path, handler.py by its file.
spec = importlib.util.spec_from_file_location("handler.EndpointHandler", folder + "/handler.py")
sys.path.insert(0, folder)
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
handler = module.EndpointHandler(folder)

class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            status, answer = 200, handler(body)
        except Exception as error:
            status, answer = 400, {"error": str(error)}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
client = InferenceClient(model=f"http://127.0.0.1:{server.server_port}")
ask = client.zero_shot_classification
result = {
    "alone": [(one.label, one.score) for one in ask(texts[0], labels)],
    "several": [(one.label, one.score) for one in ask(texts[0], labels, multi_label=True, hypothesis_template="about {}")],
    "batch": handler({"inputs": texts, "parameters": {"candidate_labels": ",".join(labels)}}),
}
try:
    ask(texts[0], ["sports", "sports"])
except HfHubHTTPError as error:
    result["refused"] = [error.response.status_code, str(error)]
print("RESULT" + json.dumps(result))
"""


def ranked(model: ZeroShotPreTrainedModel, text: str, labels: list[str], **options: Any) -> list[Any]:
    """What the pipeline says, in the endpoint's words."""
    result = model.as_pipeline()(text, labels, **options)
    return list(zip(result["labels"], [pytest.approx(score, abs=1e-6) for score in result["scores"]], strict=True))


def request(**parameters: Any) -> dict[str, Any]:
    return {"inputs": "rain", "parameters": {"candidate_labels": LABELS, **parameters}}


@pytest.fixture(scope="module")
def folder(encoder_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a bi-encoder that reads 32 tokens."""
    path = tmp_path_factory.mktemp("models") / "model"
    ARCHITECTURES["biencoder"].from_encoder(encoder_dir, max_tokens=32).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def handler(folder: Path) -> EndpointHandler:
    """The handler over it."""
    return EndpointHandler(folder)


@pytest.mark.slow
def test_the_hubs_own_client_is_served_from_the_folder_alone(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """In a process without this package, where every request to the Hub would fail: nothing else may be loaded."""
    folder = tmp_path / "model"
    biencoder.save_pretrained(folder)
    for name, content in build_handler_files().items():
        (folder / name).write_text(content, encoding="utf-8")
    # Not HF_HUB_OFFLINE, which also stops the client from reaching the server on this machine.
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    words = ["-c", SERVER, json.dumps([str(folder), str(ROOT), TEXTS, LABELS])]
    result = read_result(run_apart(words, tmp_path / "home", environment))
    assert [tuple(one) for one in result["alone"]] == ranked(biencoder, TEXTS[0], LABELS)
    several = ranked(biencoder, TEXTS[0], LABELS, multi_label=True, hypothesis_template="about {}")
    assert [tuple(one) for one in result["several"]] == several
    batch = [[(one["label"], one["score"]) for one in answer] for answer in result["batch"]]
    assert batch == [ranked(biencoder, text, LABELS) for text in TEXTS]
    assert result["refused"][0] == 400
    assert "Expected distinct candidate labels, found 'sports' at positions 0 and 1." in result["refused"][1]


def test_serves_every_architecture(model: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    answers = EndpointHandler(str(tmp_path))({"inputs": TEXTS[:1], "parameters": {"candidate_labels": LABELS}})
    assert [[(one["label"], one["score"]) for one in answer] for answer in answers] == [ranked(model, TEXTS[0], LABELS)]


def test_one_text_gets_one_list_and_a_list_gets_a_list_of_lists(handler: EndpointHandler) -> None:
    """What clients tell single requests from batches by; null is "not given", as clients send it."""
    alone = handler(request(hypothesis_template=None, multi_label=None) | {"options": {"wait_for_model": True}})
    assert handler({**request(), "inputs": ["rain"]}) == [alone]
    assert [set(one) for one in alone] == [{"label", "score"}] * len(LABELS)
    assert sum(one["score"] for one in alone) == pytest.approx(1)


BAD_REQUESTS: dict[str, tuple[Any, str]] = {
    "no object": (["rain"], r'Expected a JSON object, found list: \["rain"\]\. Send'),
    "unknown field": ({"input": "rain"}, "Expected fields among inputs, parameters, options, found 'input'. Leave it out"),
    "no inputs": (
        {"parameters": {"candidate_labels": ["a"]}},
        "Expected inputs as a string or a list of strings, found nothing",
    ),
    "no text": ({**request(), "inputs": []}, r"found list: \[\]\. Send a text\."),
    "inputs of another type": ({**request(), "inputs": {"text": "rain"}}, "or a list of strings, found dict"),
    "a text of another type": (
        {**request(), "inputs": ["rain", 3]},
        "every text to be a string, found int: 3 at position 1",
    ),
    "empty text": ({**request(), "inputs": ["rain", " "]}, "every text to hold words, found ' ' at position 1"),
    "half a character": (
        {**request(), "inputs": "a\ud83d"},
        r"every text to be valid Unicode, found '\\ud83d' at position 0",
    ),
    "half a label": (request(candidate_labels=["a\ud83d"]), "every candidate label to be valid Unicode"),
    "half a template": (request(hypothesis_template="{} \ud83d"), "every template to be valid Unicode"),
    "no parameters": ({"inputs": "rain"}, "Expected candidate_labels as a list of names .*, found nothing. Send"),
    "parameters of another type": ({"inputs": "rain", "parameters": "a,b"}, "Expected parameters as an object, found str"),
    "unknown parameter": (
        request(multilabel=True),
        "Expected parameters among .*, found 'multilabel'. Leave it out or mend",
    ),
    "no labels": (request(candidate_labels=[]), r"found list: \[\]\."),
    "commas alone": (request(candidate_labels=" , "), r"found list: \[\]\."),
    "labels of another type": (request(candidate_labels=5), "one string with commas, found int: 5"),
    "a label of another type": (request(candidate_labels=["a", None]), "label to be a string, found nothing at position 1"),
    "an empty label": (request(candidate_labels=["a", ""]), "every candidate label to hold words, found '' at position 1"),
    "a label twice": (request(candidate_labels="a, b,a"), "distinct candidate labels, found 'a' at positions 0 and 2"),
    "multi_label as a word": (request(multi_label="false"), 'Expected multi_label to be true or false, found str: "false"'),
    "template of another type": (
        request(hypothesis_template=5),
        "every template to be a string, found int: 5 at position 0",
    ),
    "template without a place": (request(hypothesis_template="about"), "exactly one placeholder {} for the label name"),
    "many texts": ({**request(), "inputs": ["rain"] * 257}, "at most 256 texts in a request, found 257. Send several"),
    "many labels": (request(candidate_labels=[str(one) for one in range(1001)]), "at most 1000 candidate labels .* 1001"),
    "many pairs": (
        {**request(candidate_labels=[str(one) for one in range(201)]), "inputs": ["rain"] * 100},
        r"Expected at most 20000 pairs of a text and a label in a request, found 100 x 201\. Send several requests\.",
    ),
    "a huge text": (
        {**request(), "inputs": "a" * 100_001},
        "texts of at most 100000 characters, found 100001 at position 0",
    ),
    "a huge label": (request(candidate_labels=["b", "a" * 100_001]), "candidate labels of at most 100000 .* position 1"),
    "a long label": (request(candidate_labels=["rain " * 31]), "Expected labels of at most 32 tokens, found one of 33"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_requests_are_refused_with_the_mend(name: str, handler: EndpointHandler) -> None:
    body, message = BAD_REQUESTS[name]
    with pytest.raises(ValueError, match=message):
        handler(body)


def test_what_is_at_its_limit_is_served(handler: EndpointHandler) -> None:
    assert len(handler({**request(candidate_labels="a"), "inputs": ["rain"] * 256})) == 256


def test_requests_at_one_time_take_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server calls from several threads, and a tokenizer cannot be shared."""
    handler = EndpointHandler(folder)
    classify, inside, seen = handler.classifier.model.predict, [0], []

    def watch(*texts: Any, **options: Any) -> Any:
        inside[0] += 1
        time.sleep(0.05)  # long enough for the others to come in, if they may
        seen.append(inside[0])
        result = classify(*texts, **options)
        inside[0] -= 1
        return result

    monkeypatch.setattr(handler.classifier.model, "predict", watch)
    threads = [threading.Thread(target=handler, args=(request(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 4


def test_loads_no_other_repository(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected the folder of a model, found no config.json in 'user/model'\."):
        EndpointHandler("user/model")
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["auto_map"]["AutoModel"] = f"user/model--{config['auto_map']['AutoModel']}"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="whose code lies in its own folder, found another repository in auto_map of"):
        EndpointHandler(other)


def test_requirements_are_those_of_the_package() -> None:
    """The list ships without setup.cfg, so a version raised there must be raised here."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(REQUIREMENTS) <= set(setup["options"]["install_requires"].split())
    assert build_handler_files()["requirements.txt"].split() == list(REQUIREMENTS)

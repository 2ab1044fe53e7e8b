"""Models go to a stand-in of the hub and come back; its cache is huggingface_hub's; no network."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import TOKEN, HubServer, Repo, git_hash, serve_hub
from PIL import Image
from safetensors.torch import load_file, save_file

from clipmamba.cli import main
from clipmamba.clip import Clip
from clipmamba.errors import InputError, WeightsError
from clipmamba.hub import HubName
from clipmamba.models import Stylizer
from clipmamba.pipelines import StylizePipeline, stylize
from clipmamba.pipelines.saved import FILES, hub_name, names_a_folder, read_index, write_index
from clipmamba.styles import StylePrior

# What huggingface_hub and its HTTP client say to each other, which Python hides from users.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")

NETWORK = "stylizer/diffusion_pytorch_model.safetensors"
FILE_ADDRESS = "{repo_id}/resolve/{revision}/{filename}"
METRICS = {"named_first": 0.41, "by_family": {"baroque": 0.62}, "judge": "lite0", "whole": True}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty hub, logged in to, with an empty cache; no other host can be reached."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        assert address[0] in ("127.0.0.1", "::1"), f"{address} was asked"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    with serve_hub() as server:
        constants = {
            "ENDPOINT": server.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{server.address}/{FILE_ADDRESS}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }  # fmt: skip
        for name, value in constants.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; gives exit code, standard output and standard error."""

    def run_here(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words], prog_name="clipmamba")
        return int(left.value.code or 0), *capfd.readouterr()

    return run_here


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny saved pipeline for the CLIP that ships, with recorded metrics."""
    clip = Clip.from_pretrained(device="cpu")
    width = clip.embed_dim
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stylizer = Stylizer(
            style_dim=width, clip="mini", widths=(8, 8, 8), depth=1, quarter_depth=1,
            state=4, expand=1, code_dim=16,
        )  # fmt: skip
        for parameter in stylizer.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    prior = StylePrior(
        torch.eye(width), torch.zeros(width), torch.eye(width)[:4], torch.full((4,), 0.5),
        clip_name="mini",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    StylizePipeline(stylizer.eval(), clip, prior).save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "secret.txt").write_text("stays here")
    return folder


@pytest.fixture
def pushed(hub: HubServer, run: Run, model: Path) -> str:
    """The commit of the model as ann/prints@v1."""
    code, out, err = run("models", "push", model, "ann/prints@v1", "--license", "apache-2.0")
    assert (code, err) == (0, "")
    commit = hub.repos["ann/prints"].refs["v1"]
    assert out == f"{hub.address}/ann/prints/commit/{commit}\n"
    return commit


def snapshot(tmp_path: Path, commit: str) -> Path:
    return tmp_path / "hub/models--ann--prints/snapshots" / commit


def trained_on(model: Path, tmp_path: Path) -> Path:
    """The same model with other weights."""
    folder = shutil.copytree(model, tmp_path / "trained-on")
    tensors = load_file(folder / NETWORK)
    save_file({name: value + 0.001 for name, value in tensors.items()}, folder / NETWORK)
    return folder


def damage(file: Path) -> None:
    file = file.resolve()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


# -- there and back --------------------------------------------------------------------------


def test_a_push_brings_the_model_its_hashes_its_card_and_nothing_else(
    hub: HubServer, pushed: str, model: Path
) -> None:
    files = hub.repos["ann/prints"].commits[pushed]
    assert set(files) == {*FILES, "manifest.json", "README.md", "metrics.json"}
    for name in FILES:
        assert files[name] == (model / name).read_bytes()
    for entry in json.loads(files["manifest.json"]):
        data = files[f"{entry['name']}/{entry['file']}"]
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert (entry["bytes"], entry["licence"]) == (len(data), "apache-2.0")


def test_the_card_says_what_is_recorded(hub: HubServer, pushed: str) -> None:
    from huggingface_hub import ModelCard

    text = hub.repos["ann/prints"].commits[pushed]["README.md"].decode()
    card = ModelCard(text)
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "clipmamba")
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures == {"named_first": 0.41, "by_family.baroque": 0.62}
    assert "| named_first | 0.41 |" in card.text
    assert "--model ann/prints@v1" in card.text


def test_figures_may_be_given_and_a_card_of_ones_own_is_kept(
    hub: HubServer, run: Run, model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "mine")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nMine.\n")
    row = tmp_path / "row.json"
    row.write_text('{"named_first": 0.5}')
    push = ("models", "push", folder, "ann/prints", "--license", "mit", "--metrics")
    assert run(*push, row)[0] == 0
    repo = hub.repos["ann/prints"]
    files = repo.commits[repo.refs["main"]]
    assert files["README.md"].endswith(b"Mine.\n")
    assert json.loads(files["metrics.json"]) == {"named_first": 0.5}
    assert not repo.tags
    code, _, err = run(*push, tmp_path / "none.json")
    assert code == 2
    assert "none.json" in err


def test_a_pull_fills_the_cache_and_then_no_hub_is_needed(
    hub: HubServer, run: Run, pushed: str, model: Path, tmp_path: Path,
    photo: Image.Image, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = snapshot(tmp_path, pushed)
    assert run("models", "pull", "ann/prints@v1") == (0, f"{folder}\n", "")
    root = folder.parents[1]
    assert (root / "refs/v1").read_text() == pushed
    weights = (folder / NETWORK).resolve()
    assert weights.parent == root / "blobs"
    assert weights.name == hashlib.sha256((model / NETWORK).read_bytes()).hexdigest()
    assert (folder / "model_index.json").resolve().name == git_hash(
        (model / "model_index.json").read_bytes()
    )

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    code, out, _ = run("models", "list", "--check")
    assert code == 0
    assert f"ann/prints@v1: from the Hub, commit {pushed[:12]} (verified)\n  {folder}\n" in out
    code, out, err = run("models", "verify", "ann/prints@v1")
    assert (code, err) == (0, "")
    assert re.fullmatch(
        r"ann/prints@v1: loads strictly, all weights finite; \d+ hashes match\n", out
    )
    photo.save(tmp_path / "photo.png")
    for name, result in (("ann/prints@v1", "hub.png"), (model, "folder.png")):
        words = ("stylize", tmp_path / "photo.png", "-p", "woodcut", "--device", "cpu")
        assert run(*words, "--model", name, "-o", tmp_path / result)[0] == 0
    assert (
        Image.open(tmp_path / "hub.png").tobytes() == Image.open(tmp_path / "folder.png").tobytes()
    )
    assert hub.requests == []


def test_a_model_is_fetched_when_it_is_first_used_and_then_not_asked_for_again(
    hub: HubServer, pushed: str, model: Path, photo: Image.Image
) -> None:
    by_name = stylize(photo, "woodcut", model="ann/prints@v1", device="cpu")
    by_folder = stylize(photo, "woodcut", model=model, device="cpu")
    assert by_name.tobytes() == by_folder.tobytes()
    hub.requests.clear()
    StylizePipeline.from_pretrained("ann/prints@v1", "cpu")
    assert hub.requests == []


def test_a_pull_renews_what_moved_and_loads_nothing_twice(
    hub: HubServer, run: Run, pushed: str, model: Path, tmp_path: Path
) -> None:
    run("models", "pull", "ann/prints")
    hub.requests.clear()
    assert run("models", "pull", "ann/prints")[0] == 0
    assert not [request for request in hub.requests if "resolve" in request]
    changed = trained_on(model, tmp_path)
    assert run("models", "push", changed, "ann/prints@v2", "--license", "mit")[0] == 0
    renewed = hub.repos["ann/prints"].refs["v2"]
    assert read_index("ann/prints").folder == snapshot(tmp_path, pushed)  # not asked for news
    assert run("models", "pull", "ann/prints") == (0, f"{snapshot(tmp_path, renewed)}\n", "")
    assert read_index("ann/prints").folder == snapshot(tmp_path, renewed)
    assert hub.repos["ann/prints"].refs == {"main": renewed, "v1": pushed, "v2": renewed}
    loaded = [request for request in hub.requests if "GET" in request and "resolve" in request]
    assert [request for request in loaded if NETWORK in request]
    assert not [request for request in loaded if "prior" in request]


@pytest.mark.parametrize("file", [NETWORK, "prior/config.json"])
def test_a_damaged_cache_is_found_and_mended_by_a_pull(
    run: Run, pushed: str, tmp_path: Path, file: str
) -> None:
    run("models", "pull", "ann/prints@v1")
    damage(snapshot(tmp_path, pushed) / file)
    code, _, err = run("models", "verify", "ann/prints@v1")
    assert code == 3
    assert "damaged" in err
    assert err.count("\n") == 1
    code, _, err = run("models", "pull", "ann/prints@v1")
    assert code == 0
    assert "downloading it again" in err
    assert run("models", "verify", "ann/prints@v1")[0] == 0


def test_damaged_weights_never_restyle(pushed: str, tmp_path: Path) -> None:
    StylizePipeline.from_pretrained("ann/prints@v1", "cpu")
    damage(snapshot(tmp_path, pushed) / NETWORK)
    with pytest.raises(WeightsError, match=r"damaged.*models pull ann/prints@v1"):
        StylizePipeline.from_pretrained("ann/prints@v1", "cpu")


def test_a_clip_of_the_hub_comes_along(
    hub: HubServer, run: Run, model: Path, tmp_path: Path, tiny_clip_folder: Path,
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hub.repos["ann/clip"] = Repo()
    hub.repos["ann/clip"].commit(
        {file.name: file.read_bytes() for file in tiny_clip_folder.iterdir()}
    )
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "with-clip")
    code, _, err = run("models", "push", folder, "ann/prints", "--license", "mit")
    assert code == 3
    assert f"CLIP folder {tiny_clip_folder}, which no other machine has" in err
    for file in ("model_index.json", "stylizer/config.json", "prior/config.json"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace(str(tiny_clip_folder), "hf-hub:ann/clip"))
    code, _, err = run("models", "push", folder, "ann/prints", "--license", "mit")
    assert (code, err) == (0, "")
    assert run("models", "pull", "ann/prints")[0] == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert StylizePipeline.from_pretrained("ann/prints", "cpu").clip.name == "hf-hub:ann/clip"


@pytest.mark.parametrize("exists", ["no", "private", "public"])
def test_what_is_to_be_private_is_never_public(
    hub: HubServer, run: Run, model: Path, exists: str
) -> None:
    if exists != "no":
        hub.repos["ann/prints"] = Repo(private=exists == "private")
        hub.repos["ann/prints"].commit({})
    push = ("models", "push", model, "ann/prints@v1", "--license", "mit", "--private")
    code, _, err = run(*push)
    repo = hub.repos["ann/prints"]
    if exists == "public":
        assert code == 2
        assert "exists already and is public; make it private" in err
        assert err.count("\n") == 1
        assert not hub.large
        assert set(repo.refs) == {"main"}
        assert repo.commits[repo.refs["main"]] == {}
    else:
        assert (code, err) == (0, "")
        assert repo.private
        assert NETWORK in repo.commits[repo.refs["v1"]]


def test_a_stylizer_that_is_to_be_private_is_never_public(hub: HubServer, model: Path) -> None:
    hub.repos["ann/prints"] = repo = Repo(private=False)
    repo.commit({})
    stylizer = Stylizer.from_pretrained(model / "stylizer")
    with pytest.raises(InputError, match="exists already and is public"):
        stylizer.push_to_hub("ann/prints", private=True)
    assert repo.commits[repo.refs["main"]] == {}


def test_the_pipeline_of_diffusers_is_pushed_like_a_folder(
    hub: HubServer, pushed: str, model: Path, tiny_pipeline_folder: Path
) -> None:
    pytest.importorskip("diffusers")
    from clipmamba.integrations.diffusers import StylizeDiffusionPipeline

    pipe = StylizeDiffusionPipeline.from_pretrained(model)
    pipe.push_to_hub("ann/pipe@v1", license_id="apache-2.0", private=True)
    repo, reference = hub.repos["ann/pipe"], hub.repos["ann/prints"].commits[pushed]
    files = repo.commits[repo.refs["v1"]]
    assert repo.private
    assert set(files) == {*FILES, "manifest.json", "README.md"}
    assert all(files[name] == reference[name] for name in (*FILES, "manifest.json"))
    assert b"library_name: clipmamba" in files["README.md"]
    assert b"license: apache-2.0" in files["README.md"]

    with pytest.raises(InputError, match=r"license_id='apache-2\.0'"):
        pipe.push_to_hub("ann/other")
    with pytest.raises(InputError, match="unknown option 'create_pr'"):
        pipe.push_to_hub("ann/other", license_id="mit", create_pr=True)
    with pytest.raises(InputError, match="'other' is not a name on the Hub"):
        pipe.push_to_hub("other", license_id="mit")
    local = StylizeDiffusionPipeline.from_pretrained(tiny_pipeline_folder)
    with pytest.raises(WeightsError, match=r"CLIP folder .*, which no other machine has"):
        local.push_to_hub("ann/other", license_id="mit")
    assert "ann/other" not in hub.repos


def test_one_network_goes_there_and_back(hub: HubServer, model: Path) -> None:
    stylizer = Stylizer.from_pretrained(model / "stylizer")
    address = stylizer.push_to_hub("ann/network")
    commit = address.rpartition("/")[2]
    back = Stylizer.from_pretrained(f"ann/network@{commit}")
    for name, value in stylizer.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)


def test_the_environment_says_where_the_hub_and_its_cache_are(
    hub: HubServer, pushed: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "clipmamba", "models", "pull", "ann/prints@v1"],
        capture_output=True, text=True, check=False, env=kept | settings,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    folder = Path(done.stdout.strip())
    assert folder == home / "hub/models--ann--prints/snapshots" / pushed
    assert (folder / NETWORK).is_file()


# -- what can go wrong -----------------------------------------------------------------------


def no_network(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


def forbidden(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def no_token(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("HF_TOKEN")
    patch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)


def wrong_token(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HF_TOKEN", "hf_" + "y" * 34)


def private(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.repos["ann/prints"].private = True
    no_token(hub, patch)


def nothing(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    pass


def breaks(pattern: str) -> Callable[[HubServer, pytest.MonkeyPatch], None]:
    def set_pattern(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
        hub.broken = pattern

    return set_pattern


PULL = ["models", "pull", "ann/prints@v1"]
PUSH = ["models", "push", "MODEL", "ann/prints@v2", "--license", "mit"]
ERRORS = {
    "pull without network": (no_network, PULL, 3, r"127\.0\.0\.1:9 can't be reached"),
    "pull, forbidden": (forbidden, PULL, 3, r"network is forbidden; unset HF_HUB_OFFLINE"),
    "pull unknown": (nothing, ["models", "pull", "ann/nobody"], 3, "no such repository"),
    "pull private": (private, PULL, 3, r"or it is private: .*HF_TOKEN or 'hf auth login'"),
    "pull wrong revision": (nothing, ["models", "pull", "ann/prints@v9"], 3, "no such revision"),
    "pull what is no name": (nothing, ["models", "pull", "prints"], 2, "user/name@revision"),
    "pull what is no model": (nothing, ["models", "pull", "ann/text"], 3, r"no model_index\.json"),
    "pull breaks": (breaks("GET .*safetensors"), PULL, 3, "can't download ann/prints@v1: "),
    "push without network": (no_network, PUSH, 3, r"127\.0\.0\.1:9 can't be reached"),
    "push, forbidden": (forbidden, PUSH, 3, r"network is forbidden; unset HF_HUB_OFFLINE"),
    "push without token": (no_token, PUSH, 3, r"without a token: .*HF_TOKEN or 'hf auth login'"),
    "push with a wrong token": (wrong_token, PUSH, 3, r"Invalid username.*'hf auth login'"),
    "push to another": (nothing, [*PUSH[:3], "bob/prints", *PUSH[4:]], 3, "don't have the rights"),
    "push an old tag": (nothing, [*PUSH[:3], "ann/prints@v1", *PUSH[4:]], 2, "a tag never moves"),
    "push no model": (nothing, [*PUSH[:2], "none", *PUSH[3:]], 3, "no model folder none"),
    "push breaks": (breaks("PUT /store|POST .*commit"), PUSH, 3, "can't push ann/prints@v2: "),
    "use without network": (no_network, ["models", "verify", "ann/prints@v1"], 3,
                            r"no model folder ann/prints@v1, and .*can't be reached"),
    "use, forbidden": (forbidden, ["models", "verify", "ann/prints@v1"], 3,
                       r"not in the local cache, .*forbidden.*clipmamba models pull ann/prints@v1"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_what_goes_wrong_is_one_line_with_a_remedy(
    hub: HubServer, run: Run, pushed: str, model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, case: str,
) -> None:  # fmt: skip
    spoil, words, wanted, message = ERRORS[case]
    hub.repos["ann/text"] = Repo()
    hub.repos["ann/text"].commit({"README.md": b"A text."})
    before = dict(hub.repos["ann/prints"].refs)
    changed = trained_on(model, tmp_path)
    spoil(hub, monkeypatch)
    code, out, err = run(*(changed if word == "MODEL" else word for word in words))
    assert (code, out) == (wanted, "")
    assert re.search(message, err)
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert len(err) < 350
    assert hub.repos["ann/prints"].refs == before


def test_a_pull_that_gets_no_answer_does_not_pass_off_the_old_version(
    hub: HubServer, run: Run, pushed: str
) -> None:
    run("models", "pull", "ann/prints")
    hub.broken = "GET /api/models/ann/prints"
    code, _, err = run("models", "pull", "ann/prints")
    assert code == 3
    assert "out of order" in err


def test_a_clip_that_breaks_off_is_not_called_incomplete(
    hub: HubServer, tiny_clip_folder: Path
) -> None:
    hub.repos["ann/clip"] = Repo()
    hub.repos["ann/clip"].commit({"open_clip_model.safetensors": b"x"})
    hub.broken = "resolve"
    with pytest.raises(WeightsError, match="can't download open_clip_model") as caught:
        Clip.from_pretrained("hf-hub:ann/clip")
    assert "has no" not in str(caught.value)


# -- verify, names ---------------------------------------------------------------------------


def test_a_folder_is_verified_strictly_with_or_without_hashes(
    run: Run, model: Path, tmp_path: Path
) -> None:
    code, out, _ = run("models", "verify", model)
    assert code == 0
    assert out == f"{model}: loads strictly, all weights finite; no recorded hashes\n"
    for name, spoil, message in (
        ("infinite", lambda tensors, key: tensors[key].view(-1)[:1].fill_(torch.inf), "not finite"),
        ("missing", lambda tensors, key: tensors.pop(key), "missing"),
        ("extra", lambda tensors, key: tensors.update(more=tensors[key].clone()), "unknown"),
    ):
        folder = shutil.copytree(model, tmp_path / name)
        tensors = load_file(folder / NETWORK)
        spoil(tensors, min(tensors))
        save_file(tensors, folder / NETWORK)
        code, out, err = run("models", "verify", folder)
        assert (code, out) == (3, "")
        assert message in err


def test_what_ships_is_verified(run: Run) -> None:
    code, out, _ = run("models", "verify")
    assert code == 0
    assert out == "default: loads strictly, all weights finite; 4 hashes match\n"


def test_mini_is_the_shipped_model_wherever_one_works(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mini").mkdir()
    write_index(tmp_path, "mini", 1)
    assert read_index(tmp_path).clip == "mini"
    assert not names_a_folder("mini")
    write_index(tmp_path, "./mini", 1)
    assert read_index(tmp_path).clip == str(tmp_path.resolve() / "mini")


def test_a_folder_wins_and_a_path_is_never_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name("ann/prints") == HubName("ann/prints")
    assert hub_name("ann/prints@v1") == HubName("ann/prints", "v1")
    assert hub_name(Path("ann/prints")) is None
    for text in ("prints", "./ann/prints", "/ann/prints", "ann/../prints", "ann/prints@../x"):
        assert hub_name(text) is None
    with pytest.raises(WeightsError, match="no model folder ann/prints; give a folder"):
        stylize(Image.new("RGB", (8, 8)), "woodcut", model=Path("ann/prints"), device="cpu")
    with pytest.raises(WeightsError, match=r"no stylizer folder at ann/prints$"):
        Stylizer.from_pretrained(Path("ann/prints"))
    Path("ann/prints").mkdir(parents=True)
    assert hub_name("ann/prints") is None

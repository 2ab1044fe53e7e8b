"""Hugging Face's hub: whether it may be asked, whether it answers, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clipmamba.errors import WeightsError
from clipmamba.files import one_line

CONNECT_SECONDS = 5.0
LOG_IN = "log in by HF_TOKEN or 'hf auth login'"


def offline(local_files_only: bool | None = None) -> bool:
    """Whether the network is forbidden; None asks `HF_HUB_OFFLINE`."""
    import huggingface_hub as hub

    return hub.constants.HF_HUB_OFFLINE if local_files_only is None else local_files_only


def knock(problem: str, remedy: str) -> None:
    """Ask once whether the hub answers, since its own client retries for 23 seconds.

    Raises:
        WeightsError: It does not; the problem and the remedy are said with it.
    """
    import urllib.error
    import urllib.request

    import huggingface_hub as hub

    url = hub.constants.ENDPOINT
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # an answer, whatever it says
    except OSError as error:
        raise WeightsError(f"{problem}: {url} can't be reached; {remedy}") from error


@contextlib.contextmanager
def hub_errors(problem: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a `WeightsError` of one line that names the remedy."""
    from huggingface_hub import errors

    transport: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # its client's own
    try:
        yield
    except errors.HfHubHTTPError as error:
        raise WeightsError(f"{problem}: {_meaning(error)}") from error
    except (transport, OSError, ValueError, RuntimeError) as error:  # the last for an upload
        raise WeightsError(f"{problem}: {one_line(error)}") from error


def _meaning(error: Exception) -> str:
    """What an answer of the hub's means."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"its authors must grant access first; ask on its page and {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no such repository, or it is private: check the name, or {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision; give a branch, a tag or a whole commit"
    assert isinstance(error, errors.HfHubHTTPError)
    says = one_line(Exception(error.server_message or error))
    if error.response.status_code in (401, 403):
        return f"the hub refuses: {says}; {LOG_IN}, with a token that may do this"
    return says

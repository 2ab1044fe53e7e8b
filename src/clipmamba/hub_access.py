"""Access to the Hugging Face Hub: whether it is allowed, whether it responds, what errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from clipmamba.errors import InputError, WeightsError
from clipmamba.files import one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONNECT_SECONDS = 5.0
LOG_IN = "log in with HF_TOKEN or 'hf auth login'"


def offline(local_files_only: bool | None = None) -> bool:
    """Tell whether network access is forbidden; None looks at `HF_HUB_OFFLINE`."""
    import huggingface_hub as hub

    return hub.constants.HF_HUB_OFFLINE if local_files_only is None else local_files_only


def knock(problem: str, remedy: str) -> None:
    """Check once whether the Hub responds, since its own client retries for 23 seconds.

    Args:
        problem: What is missing, for the error message.
        remedy: What the user can do, for the error message.

    Raises:
        WeightsError: The Hub does not respond.
    """
    import urllib.error
    import urllib.request

    import huggingface_hub as hub

    url = hub.constants.ENDPOINT
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # any response will do
    except OSError as error:
        raise WeightsError(f"{problem}: {url} can't be reached; {remedy}") from error


def make_repository(api: HfApi, name: str, private: bool | None, problem: str) -> str:
    """Create a repository unless it exists, and return its full name.

    Args:
        api: The Hub's client.
        name: "user/name".
        private: Whether a new repository is private; None for the account's default. True refuses
            a public one that exists, for which the Hub ignores it.
        problem: What is not done, for the error message.

    Raises:
        InputError: The repository is public although `private` is True.
        WeightsError: The Hub can't be reached or refuses.
    """
    with hub_errors(problem):
        repo: str = api.create_repo(name, private=private, exist_ok=True).repo_id
        public = bool(private) and not api.repo_info(repo).private
    if public:
        raise InputError(
            f"{problem}: the repository exists already and is public; make it private on the Hub "
            "first, or choose another name"
        )
    return repo


@contextlib.contextmanager
def hub_errors(problem: str) -> Iterator[None]:
    """Raise the errors of huggingface_hub as a `WeightsError` in one line, with the remedy."""
    from huggingface_hub import errors

    transport: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # its client's own
    try:
        yield
    except errors.HfHubHTTPError as error:
        raise WeightsError(f"{problem}: {_meaning(error)}") from error
    except (transport, OSError, ValueError, RuntimeError) as error:  # the last for an upload
        raise WeightsError(f"{problem}: {one_line(error)}") from error


def _meaning(error: Exception) -> str:
    """Explain an error response of the Hub."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"access must be granted by its authors; ask on its page and {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the Hub has no such repository, or it is private: check the name, or {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision; give a branch, a tag or a full commit hash"
    assert isinstance(error, errors.HfHubHTTPError)
    says = one_line(Exception(error.server_message or error))
    if error.response.status_code in (401, 403):
        return f"the Hub refuses: {says}; {LOG_IN}, as a user with this permission"
    return says

"""Access to the Hugging Face Hub: whether it is allowed, and whether the Hub responds."""

from __future__ import annotations

from clipmamba.errors import WeightsError

CONNECT_SECONDS = 5.0


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
        raise WeightsError(f"{problem} and {url} can't be reached; {remedy}") from error

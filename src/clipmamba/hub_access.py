"""Hugging Face's hub: whether it may be asked, and whether it answers."""

from __future__ import annotations

from clipmamba.errors import WeightsError

CONNECT_SECONDS = 5.0


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
        raise WeightsError(f"{problem} and {url} can't be reached; {remedy}") from error

"""What rl_zoo3 2.9.2 needs mended to push agents to the Hugging Face hub and to load them from there."""

from __future__ import annotations

import importlib
import sys


def mend() -> None:
    """
    Make rl_zoo3 fit the packages that it requires.

    It imports a name that huggingface_sb3 has made private; and where an agent has no file of statistics it waits for
    an error of requests, which huggingface_hub does not use any more. What cannot be loaded at all ends the program
    with a sentence.
    """
    import huggingface_sb3
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError
    from requests.exceptions import HTTPError

    pushing = importlib.import_module("huggingface_sb3.push_to_hub")  # the package has a function of that name
    if not hasattr(pushing, "generate_metadata"):
        pushing.generate_metadata = pushing._generate_metadata  # type: ignore[attr-defined]
    load = huggingface_sb3.load_from_hub

    def load_from_hub(repo_id: str, filename: str) -> str:
        try:
            return load(repo_id, filename)
        # The first is an EntryNotFoundError as well; the last is huggingface_sb3's warning of pickles
        except (LocalEntryNotFoundError, RepositoryNotFoundError, ValueError) as error:
            sys.exit(f"{filename} of {repo_id} cannot be loaded from the Hugging Face hub. {error}")
        except EntryNotFoundError as error:
            raise HTTPError(f"{repo_id} has no {filename}.") from error

    huggingface_sb3.load_from_hub = load_from_hub

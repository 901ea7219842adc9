"""How a variant (a sampler, a retention rule, a layer, …) is chosen by a constructor argument."""

from collections.abc import Mapping
from typing import Any, TypeVar

Variant = TypeVar("Variant")


def resolve_variant(argument: str, spec: Any, registry: Mapping[str, type[Variant]], base: type) -> Variant:
    """
    Make the variant that an argument asks for.

    >>> resolve_variant("number", {"int": {}}, {"int": int}, int)
    0

    :param argument: the argument's name, for messages
    :param spec: a name from ``registry``, a one-entry dict ``{name: keyword_arguments}`` as in the RL Zoo's YAML files,
        or an object of type ``base``
    :param registry: the variants by name
    :param base: what an object must be
    :return: the variant
    :raises ValueError: for an unknown name or wrong keyword arguments
    """
    if isinstance(spec, base) and not isinstance(spec, (str, dict)):
        return spec  # type: ignore[return-value]
    name, kwargs = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (spec, {})
    if not isinstance(name, str) or name not in registry:
        raise ValueError(
            f"{argument}={spec!r} is not known. Use one of {', '.join(map(repr, registry))}, such a name with "
            f"arguments as in {{name: {{argument: value}}}}, or a {base.__name__} object."
        )
    try:
        return registry[name](**(kwargs or {}))
    except TypeError as error:
        raise ValueError(f"{argument}={spec!r}: {error}") from error

"""Finds bindings without any effect, and says what is wrong with each."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from leaf_audio.app import any_frontend, bindings
from leaf_audio.app.configurables import ARGUMENT_FOR, PASSED_AS_CLASS
from leaf_audio.app.gin_files import Key, Reference


def unused(in_force: Iterable[Key], used: Iterable[Key]) -> list[Key]:
    """Returns the bindings that no call has used so far.

    Args:
        in_force: All bindings.
        used: The arguments of all calls so far.

    Returns:
        The bindings of `in_force` that are in none of the calls. A binding
        without a scope is also used by calls inside a scope.
    """
    taken: dict[tuple[str, str], list[str]] = {}
    for key in used:
        # For gin, the scopes of a macro are a part of its name.
        scope = key.argument if key.is_macro else key.scope
        taken.setdefault(_without_scope(key), []).append(scope)

    def is_used(key: Any) -> bool:
        scope = key.argument if key.is_macro else key.scope
        scopes = taken.get(_without_scope(key), ())
        return any(
            not scope or f"{one}/".startswith(f"{scope}/") for one in scopes
        )

    return [key for key in in_force if not is_used(key)]


def explain(
    key: Key, in_force: Mapping[Key, Any], used: Collection[Key]
) -> str:
    """Says why a binding has had no effect, and what to write instead.

    Args:
        key: A binding that `unused` has found.
        in_force: All bindings.
        used: The arguments of all calls so far.

    Returns:
        A part of a sentence, such as "nothing refers to @PCENLayer(); write
        Leaf.compression_fn = @PCENLayer()".
    """
    refusal = any_frontend.refusal(key, in_force)
    if refusal:
        return refusal
    if key.is_macro:
        known = {one.argument for one in {*in_force, *used} if one.is_macro}
        near = difflib.get_close_matches(key.argument, known - {key.argument})
        return f"nothing reads %{key.argument}{_did_you_mean(near)}"
    name = key.configurable
    called = bindings.called()
    scopes = {scope for scope, one in called if one == name}
    if any(f"{one}/".startswith(f"{key.scope}/") for one in scopes) or (
        scopes and not key.scope
    ):
        return f"what calls {name} passes `{key.argument}` itself"
    if scopes:
        return f"no call of {name} is in the scope {key.scope!r}"
    reference = Reference(key.scope, name, name not in PASSED_AS_CLASS)
    holders = _holders(name, in_force)
    names = {one for _, one in called}
    advice = _where_to_refer(reference, names)
    if holders:
        reason = f"{holders[0]} refers to {name}, but nothing calls it"
    else:
        reason = f"nothing refers to {reference}"
    if advice:
        return f"{reason}; write {advice}"
    similar = difflib.get_close_matches(
        name, {one for one in names if any_frontend.takes(one, key.argument)}
    )
    return reason + _did_you_mean([f"{s}.{key.argument}" for s in similar])


def _without_scope(key: Key) -> tuple[str, str]:
    if key.is_macro:
        return "", key.argument.partition("/")[0]
    return key.configurable, key.argument


def _holders(name: str, in_force: Mapping[Key, Any]) -> list[Key]:
    return [
        key
        for key, value in in_force.items()
        for one in bindings.references(value)
        if isinstance(one, Reference) and one.configurable == name
    ]


def _where_to_refer(reference: Reference, called: Collection[str]) -> str:
    """Returns a binding that would make a part be used, or an empty text."""
    argument = ARGUMENT_FOR.get(reference.configurable)
    if argument is None:
        return ""
    if argument == "spec_augment" and "spec_augment_switch" in called:
        return "spec_augment = True"
    owners = sorted(
        name for name in called if any_frontend.takes(name, argument)
    )
    return f"{owners[0]}.{argument} = {reference}" if owners else ""


def _did_you_mean(names: Collection[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""

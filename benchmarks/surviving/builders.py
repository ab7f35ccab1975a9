"""Invalid builder calls. Survived: a ValueError that names the argument; a TypeError where there is no such argument.

The odd values are those of tests/models/test_odd_arguments.py, in calls of its own drawing and under other names.
"""

import inspect

COUNT, QUICK, UNKNOWN = 300, 30, 10  # of the calls, one in ten has an argument that does not exist


def tries(folder, rng, quick):
    import test_odd_arguments as odd

    import kresnet

    count = QUICK if quick else COUNT
    calls = rng.sample(list(odd.calls()), count - count // UNKNOWN)
    for _ in range(count // UNKNOWN):
        builder = rng.choice(list(odd.BUILDERS))
        known = rng.choice(list(inspect.signature(getattr(kresnet, builder)).parameters))
        name = known.replace(known[len(known) // 2], "_q", 1)  # a slip
        calls.append((builder, {**odd.BUILDERS[builder], name: rng.choice((1, "x", None))}, name))
    for builder, arguments, name in rng.sample(calls, len(calls)):
        wrong = _wrong(getattr(kresnet, builder), arguments, name)
        yield wrong and f"{builder}({name}={arguments[name]!r}): {wrong}"


def _wrong(builder, arguments, name):
    unknown = name not in inspect.signature(builder).parameters
    try:
        builder(**arguments)
    except ValueError as error:
        named = name in str(error) and "Received: " in str(error)
        return "a ValueError" if unknown else None if named else f"the error does not name it: {error}"
    except TypeError as error:
        return None if unknown and name in str(error) else f"TypeError: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it was built"

"""Features, statuses and options that the library lists, and what its setters accept."""

import ctypes
import json

import pytest

from support import LIBRARY, ROOT

ABI = json.loads((ROOT / "include/dbss-abi.json").read_text())
STATUSES = {one["name"]: one["value"] for one in ABI["statuses"]}
MOST = 2**64 - 1
OBJECTS = {
    "config": "config",
    "operation": "operation",
    "report_spec": "report_spec",
    "mirror": "mirror_options",
    "schedule": "schedule_changes",
}
TYPES = {"string": ctypes.c_char_p, "integer": ctypes.c_int64, "status": ctypes.c_int32}


class Library:
    """Functions by their names, with types from the description."""

    def __init__(self, path):
        self.loaded = ctypes.CDLL(str(path))
        self.described = {one["name"]: one for one in ABI["functions"]}

    def __getattr__(self, name):
        function = getattr(self.loaded, f"dbss_{name}")
        returns = self.described[f"dbss_{name}"]["returns"]
        wide = returns["c_type"] in ("int64_t", "size_t", "uint32_t")
        kind = returns["kind"] if wide or returns["kind"] != "integer" else "status"
        function.restype = TYPES.get(kind, ctypes.c_void_p)
        return function


@pytest.fixture(scope="module")
def abi():
    return Library(LIBRARY)


def index(value):
    return ctypes.c_size_t(value)


def test_features_are_those_of_the_description(abi):
    count = len(ABI["features"])
    assert abi.feature_count() == count >= 18
    for i, one in enumerate(ABI["features"]):
        assert abi.feature_name(index(i)) == one["name"].encode()
        assert abi.feature_help(index(i)) == one["help"].encode() != b""
        assert abi.has_feature(one["name"].encode()) == 1
    for beyond in (count, MOST):
        assert abi.feature_name(index(beyond)) is abi.feature_help(index(beyond)) is None
    for unknown in (b"Download", b"no-such-feature", b"", b"\xff", None):
        assert abi.has_feature(unknown) == 0


def test_statuses_are_those_of_the_description(abi):
    values = [abi.status_value(index(i)) for i in range(abi.status_count())]
    assert values == [one["value"] for one in ABI["statuses"]] == sorted(values)
    for one in ABI["statuses"]:
        assert abi.status_name(one["value"]) == one["name"].encode()
        assert abi.status_message(one["value"])
        assert abi.status_group(one["value"]) == one["value"] // 100 * 100
    assert abi.status_value(index(len(values))) == abi.status_value(index(MOST)) == -1
    # Statuses of a newer library, and none.
    assert abi.status_name(299) == b"DBSS_ERR_UNKNOWN"
    assert abi.status_message(299)
    for status in (199, 299, 399, 499, 599, 699, 799):
        assert abi.status_group(status) == status - 99
    for status in (99, 800, -1, -(2**31), 2**31 - 1):
        assert abi.status_group(status) == STATUSES["DBSS_ERR_INTERNAL"]


@pytest.fixture(params=OBJECTS)
def options(request, abi):
    """The number of a set of options, its name, and a function that sets one."""
    name = OBJECTS[request.param]
    handle = ctypes.c_void_p()
    assert getattr(abi, f"{name}_new")(ctypes.byref(handle)) == 0
    setter = getattr(abi, f"{name}_set")

    def set_option(key, value):
        status = setter(handle, key, value.encode())
        error = ctypes.c_void_p(abi.last_error())
        return status, abi.error_parameter(error)

    yield list(OBJECTS).index(request.param) + 1, request.param, set_option
    getattr(abi, f"{name}_free")(handle)


def values_of(row):
    """Numbers that the option takes, and those that it refuses."""
    if row["type"] not in ("number", "milliseconds", "bytes", "mode"):
        return [], []
    minimum, maximum = row["minimum"], row["maximum"]
    good = [minimum, 2**63 - 1 if maximum is None else maximum]
    bad = [] if maximum is None else [maximum + 1]
    bad += [minimum - 1] if minimum > 0 else []
    (good if row["allows_none"] else bad).append(-1)
    return good, bad


def test_options_match_their_setters(abi, options):
    number, name, set_option = options
    rows = ABI["options"][name]
    assert abi.option_count(number) == len(rows) > 0
    invalid = STATUSES["DBSS_ERR_INVALID_VALUE"]
    for i, row in enumerate(rows):
        key = row["key"].encode()
        assert abi.option_key(number, index(i)) == key
        assert abi.option_type(number, index(i)) == row["type"].encode()
        assert abi.option_help(number, index(i))
        for part, getter in (("default", abi.option_default), ("choices", abi.option_choices)):
            text = getter(number, index(i))
            choices = text.decode().split(",") if text and part == "choices" else text
            assert choices == (row[part].encode() if part == "default" and row[part] else row[part])
            for one in choices if part == "choices" and choices else [text] if text else []:
                assert set_option(key, one if isinstance(one, str) else one.decode())[0] == 0
        assert (row["choices"] is None) == (row["type"] != "choice")
        good, bad = values_of(row)
        if good:
            assert abi.option_minimum(number, index(i)) == good[0] >= 0
            assert abi.option_maximum(number, index(i)) == good[1] > good[0]
        assert abi.option_allows_none(number, index(i)) == row["allows_none"]
        form = "{:o}" if row["type"] == "mode" else "{}"
        for one in good:
            assert set_option(key, form.format(one)) == (0, None)
        for one in bad:
            assert set_option(key, form.format(one)) == (invalid, key)
    assert set_option(b"no_such_key", "1") == (STATUSES["DBSS_ERR_UNKNOWN_KEY"], b"key")
    assert set_option(b"\xff", "1") == (STATUSES["DBSS_ERR_INVALID_UTF8"], b"key")


@pytest.mark.parametrize("number", range(-1, 7))
def test_options_end(abi, number):
    """Also those of a set of a newer library."""
    count = abi.option_count(number)
    assert (count > 0) == (1 <= number <= len(OBJECTS))
    for beyond in (index(count), index(MOST)):
        for text in ("key", "type", "default", "help", "choices"):
            assert getattr(abi, f"option_{text}")(number, beyond) is None
        assert abi.option_minimum(number, beyond) == abi.option_maximum(number, beyond) == -1
        assert abi.option_allows_none(number, beyond) == 0

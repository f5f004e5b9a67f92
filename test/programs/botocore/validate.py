"""Holds recorded requests against botocore's service models: one JSON object a line on standard input (`method`,
`target`, `headers`, `body` in base64), one on standard output (`service`, `protocol`, `operation`, `violations`)."""

import base64
import json
import sys
from datetime import datetime
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.session
import regex

SERVICES = ("ec2", "ecr", "ecs", "efs", "logs", "service-quotas", "servicediscovery", "sts")
SESSION = botocore.session.get_session()
MODELS = {}
for name in SERVICES:
    model = SESSION.get_service_model(name)
    MODELS[model.signing_name] = model


class Violations(list):
    def add(self, path, words):
        self.append(f"{path or 'the request'}: {words}")


def validate(shape, value, path, found):
    """Types, required and unknown members, lengths, ranges, patterns, enumerations."""
    checks[shape.type_name](shape, value, path, found)


def check_structure(shape, value, path, found):
    if not isinstance(value, dict):
        return found.add(path, f"is no structure: {value!r}")
    for name in shape.required_members:
        if name not in value:
            found.add(path, f"has no {name}")
    for name, inner in value.items():
        if name not in shape.members:
            found.add(path, f"has the unknown member {name}")
        else:
            validate(shape.members[name], inner, f"{path}.{name}", found)


def check_list(shape, value, path, found):
    if not isinstance(value, list):
        return found.add(path, f"is no list: {value!r}")
    check_bounds(shape, len(value), path, found, "has elements:")
    for index, inner in enumerate(value):
        validate(shape.member, inner, f"{path}[{index}]", found)


def check_map(shape, value, path, found):
    if not isinstance(value, dict):
        return found.add(path, f"is no map: {value!r}")
    check_bounds(shape, len(value), path, found, "has entries:")
    for key, inner in value.items():
        validate(shape.key, key, f"{path}'s key", found)
        validate(shape.value, inner, f"{path}[{key!r}]", found)


def check_string(shape, value, path, found):
    if not isinstance(value, str):
        return found.add(path, f"is no string: {value!r}")
    check_bounds(shape, len(value), path, found, "has characters:")
    pattern = shape.metadata.get("pattern")
    if pattern is not None and regex.search(f"^(?:{pattern})$", value) is None:
        found.add(path, f"{value!r} does not match {pattern}")
    if shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        found.add(path, f"{value!r} is none of {shape.metadata['enum']}")


def check_integer(shape, value, path, found):
    if not isinstance(value, int) or isinstance(value, bool):
        return found.add(path, f"is no integer: {value!r}")
    check_bounds(shape, value, path, found, "is")


def check_number(shape, value, path, found):
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return found.add(path, f"is no number: {value!r}")
    check_bounds(shape, value, path, found, "is")


def check_boolean(_shape, value, path, found):
    if not isinstance(value, bool):
        found.add(path, f"is no boolean: {value!r}")


def check_timestamp(_shape, value, path, found):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return
    try:
        datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        found.add(path, f"is no timestamp: {value!r}")


def check_blob(shape, value, path, found):
    try:
        check_bounds(shape, len(base64.b64decode(value, validate=True)), path, found, "has bytes:")
    except (TypeError, ValueError):
        found.add(path, f"is no blob: {value!r}")


def check_bounds(shape, size, path, found, unit):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and size < low) or (high is not None and size > high):
        found.add(path, f"{unit} {size}, not {low} to {high}")


checks = {
    "structure": check_structure,
    "list": check_list,
    "map": check_map,
    "string": check_string,
    "character": check_string,
    "integer": check_integer,
    "long": check_integer,
    "float": check_number,
    "double": check_number,
    "boolean": check_boolean,
    "timestamp": check_timestamp,
    "blob": check_blob,
}


def read_json(model, request, found):
    """AWS JSON 1.0 and 1.1: the operation is a header."""
    prefix, name = request["headers"]["x-amz-target"].rsplit(".", 1)
    if prefix != model.metadata["targetPrefix"]:
        found.add("", f"is for {prefix}")
    return model.operation_model(name), json.loads(request["body"] or b"{}")


def read_rest_json(model, request, found):
    """The operation is a method and a path; members are in path, query, headers and body."""
    target = urlsplit(request["target"])
    for name in model.operation_names:
        operation = model.operation_model(name)
        template = operation.http["requestUri"].split("?")[0]
        escaped = regex.sub(r"\\\{(\w+)(\+?)\\\}", r"(?<\1>[^/]+)", regex.escape(template))
        matched = regex.fullmatch(escaped, target.path)
        if operation.http["method"] == request["method"] and matched:
            break
    else:
        raise ValueError(f"no operation has {request['method']} {target.path}")
    value = json.loads(request["body"] or b"{}")
    query = dict(parse_qsl(target.query, keep_blank_values=True))
    shape = operation.input_shape
    names = {}
    for member, inner in shape.members.items():
        wire = inner.serialization.get("name", member)
        location = inner.serialization.get("location")
        if location == "uri":
            value[member] = scalar(inner, unquote(matched[wire]), member, found)
        elif location == "querystring" and wire in query:
            value[member] = scalar(inner, query.pop(wire), member, found)
        elif location == "header" and wire.lower() in request["headers"]:
            value[member] = scalar(inner, request["headers"][wire.lower()], member, found)
        elif location is None:
            names[wire] = member
    for name in query:
        found.add("", f"has the unknown parameter {name}")
    return operation, {names.get(name, name): inner for name, inner in value.items()}


def read_query(model, request, found, ec2=False):
    """Query and EC2's own: the whole input is in parameters with dotted names."""
    parameters = dict(parse_qsl(request["body"].decode(), keep_blank_values=True))
    operation = model.operation_model(parameters.pop("Action"))
    if parameters.pop("Version") != model.api_version:
        found.add("", "is of another version")
    tree = {}
    for name, inner in parameters.items():
        node = tree
        *folders, last = name.split(".")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = inner
    shape = operation.input_shape
    return operation, from_tree(shape, tree, "", found, ec2) if shape is not None else tree


def from_tree(shape, tree, path, found, ec2):
    if shape.type_name not in ("structure", "list"):
        return tree if isinstance(tree, dict) else scalar(shape, tree, path, found)
    if not isinstance(tree, dict):
        found.add(path, f"is no {shape.type_name}: {tree!r}")
        return {}
    if shape.type_name == "list":
        if not ec2 and not shape.serialization.get("flattened"):
            tree = tree.get(shape.member.serialization.get("name", "member"), {})
        if sorted(tree, key=int) != [str(index + 1) for index in range(len(tree))]:
            found.add(path, f"is not counted from 1: {sorted(tree)}")
        return [from_tree(shape.member, tree[key], path, found, ec2) for key in sorted(tree, key=int)]
    names = {wire_name(name, member, ec2): name for name, member in shape.members.items()}
    return {
        names.get(wire, wire): from_tree(shape.members[names[wire]], inner, f"{path}.{names[wire]}", found, ec2)
        if wire in names
        else inner
        for wire, inner in tree.items()
    }


def wire_name(name, member, ec2):
    serialization = member.serialization
    if not ec2:
        return serialization.get("name", name)
    own = serialization.get("queryName")
    given = serialization.get("name", name)
    return own if own is not None else given[0].upper() + given[1:]


def scalar(shape, text, path, found):
    """A value that travels as text."""
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
        if shape.type_name == "boolean":
            return {"true": True, "false": False}[text]
    except (KeyError, ValueError):
        found.add(path, f"is no {shape.type_name}: {text!r}")
    return text


readers = {
    "json": read_json,
    "rest-json": read_rest_json,
    "query": read_query,
    "ec2": lambda model, request, found: read_query(model, request, found, ec2=True),
}


def judge(request):
    scope = regex.search(r"Credential=[^/]+/\d{8}/[^/]+/([^/]+)/aws4_request", request["headers"]["authorization"])
    model = MODELS[scope[1]]
    found = Violations()
    # Some services speak newer protocols beside, which the SDK for JavaScript does not choose.
    protocol = next(each for each in model.metadata["protocols"] if each in readers)
    operation, value = readers[protocol](model, request, found)
    if operation.input_shape is not None:
        validate(operation.input_shape, value, "", found)
    return {
        "service": model.service_name,
        "protocol": protocol,
        "operation": operation.name,
        "violations": found,
    }


for line in sys.stdin:
    recorded = json.loads(line)
    recorded["body"] = base64.b64decode(recorded["body"])
    print(json.dumps(judge(recorded)))

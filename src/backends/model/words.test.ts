import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { isErrorKind, messageOf } from "../../common/errors.ts";
import { type StringList, StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { Filters } from "./filters.ts";
import { parseContainerPort, parsePortRange, portMappings, unpublishedPorts, wantedPorts } from "./ports.ts";
import { parseSignal, stopSignalOf } from "./signals.ts";

describe("a signal", () => {
  it("is a number or a name in any case, with or without SIG, counted from the real-time ends too", () => {
    const cases: Readonly<Record<string, number>> = {
      "9": 9,
      KILL: 9,
      sigterm: 15,
      SIGUSR1: 10,
      "SIGRTMIN+1": 35,
      RTMAX: 64,
      "SIGRTMAX-2": 62,
    };
    for (const [text, number] of Object.entries(cases)) {
      assert.equal(parseSignal(text), number, text);
    }
  });

  it("is refused for an unknown name or number", () => {
    for (const text of ["0", "SIGNOPE", "-9", "", "9.5", "RTMIN-1", "RTMAX+1", "RTMIN+31"]) {
      assert.throws(
        () => parseSignal(text),
        (error) => messageOf(error) === `invalid signal: ${text}`,
      );
    }
    assert.throws(() => parseSignal("65"), { message: "the linux daemon does not support signal 65" });
  });

  it("stops a container as TERM where its image has none that exists", () => {
    const signals = ["", "SIGNOPE", "65", "SIGUSR1"].map((stopSignal) => stopSignalOf({ stopSignal }));
    assert.deepEqual(signals, [15, 15, 15, 10]);
  });
});

describe("filters", () => {
  const filters = (values: Record<string, string[]>) => {
    const lists: Record<string, StringList> = {};
    for (const [key, list] of Object.entries(values)) {
      lists[key] = create(StringListSchema, { values: list });
    }
    return new Filters(lists, ["name", "label", "dangling"]);
  };

  it("match one of a key's values, exactly, by prefix or as a regular expression", () => {
    assert.ok(filters({ name: ["a", "b"] }).matchesExactly("name", "b"));
    assert.ok(!filters({ name: ["a"] }).matchesExactly("name", "ab"));
    assert.ok(filters({ name: ["a"] }).matchesPrefix("name", "ab"));
    assert.ok(filters({ name: ["b", ""] }).matchesPrefix("name", "ab"));
    assert.ok(!filters({ name: ["b", "abc", ""] }).hasPrefix("name", "ab"));
    assert.ok(filters({ name: ["b", "abc"] }).hasPrefix("name", "abcd"));
    assert.ok(filters({ name: ["^w.*b$"] }).matches("name", "web"));
    assert.ok(filters({ name: ["(?i)^WEB$"] }).matches("name", "web"));
    assert.ok(!filters({ name: ["("] }).matches("name", "web"));
    assert.ok(!filters({ name: ["^(a+)+$"] }).matches("name", `${"a".repeat(64)}_`)); // A backtracking engine would never finish.
    assert.ok(filters({}).matches("name", "anything"));
  });

  it("match all labels, by name or by name and value", () => {
    const labels = { a: "1", b: "x=y" };
    assert.ok(filters({ label: ["a", "b=x=y"] }).matchesPairs("label", labels));
    assert.ok(!filters({ label: ["a", "c"] }).matchesPairs("label", labels));
    assert.ok(!filters({ label: ["a=2"] }).matchesPairs("label", labels));
    assert.ok(!filters({ label: ["constructor"] }).matchesPairs("label", {}));
  });

  it("are refused for an unknown key, and for an invalid boolean", () => {
    assert.throws(
      () => new Filters({ colour: create(StringListSchema) }, ["name"]),
      (error) => isErrorKind(error, "invalid") && messageOf(error) === "invalid filter 'colour'",
    );
    assert.equal(filters({ dangling: ["true", "1"] }).boolean("dangling"), true);
    assert.equal(filters({}).boolean("dangling"), undefined);
    assert.throws(
      () => filters({ dangling: ["true", "0"] }).boolean("dangling"),
      /invalid filter 'dangling=/,
    );
  });
});

describe("ports", () => {
  it("name a port and a protocol, TCP if none", () => {
    assert.deepEqual(parseContainerPort("80"), { port: 80, protocol: "tcp" });
    assert.deepEqual(parseContainerPort("53/UDP"), { port: 53, protocol: "udp" });
    for (const text of ["", "0", "65536", "80/icmp", "http", "80-90/tcp"]) {
      assert.throws(() => parseContainerPort(text), /invalid port specification/, text);
    }
    assert.deepEqual(parsePortRange("8000-8010"), { first: 8000, last: 8010 });
    assert.equal(parsePortRange("9-8"), undefined);
  });

  it("are those of -p and -P, except SCTP", () => {
    const record = create(ContainerRecordSchema, {
      config: { exposedPorts: ["80/tcp", "9/sctp", "10/SCTP", "53/udp"] },
      hostConfig: {
        publishAllPorts: true,
        portBindings: [
          { containerPort: "80/tcp", hostPort: "8080" },
          { containerPort: "9/sctp", hostPort: "9" },
        ],
      },
    });
    assert.deepEqual(
      wantedPorts(record).map(({ containerPort, protocol, hostPort }) => [containerPort, protocol, hostPort]),
      [
        [80, "tcp", 8080],
        [53, "udp", 0],
      ],
    );
    assert.deepEqual(unpublishedPorts(record), { named: ["9/sctp"], exposed: ["10/SCTP"] });
    const plain = create(ContainerRecordSchema, { config: { exposedPorts: ["9/sctp"] }, hostConfig: {} });
    assert.deepEqual(unpublishedPorts(plain), { named: [], exposed: [] });
  });

  it("are shown as bound, otherwise as exposed", () => {
    const shown = portMappings(
      [{ protocol: "tcp", hostIp: "0.0.0.0", hostPort: 8080, containerPort: 80 }],
      ["80/tcp", "443/tcp", "nonsense"],
      [],
    );
    assert.deepEqual(
      shown.map((port) => [port.ip, port.publicPort, port.privatePort, port.type]),
      [
        ["0.0.0.0", 8080, 80, "tcp"],
        ["", 0, 443, "tcp"],
      ],
    );
  });
});

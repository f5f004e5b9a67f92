import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../../state/container-table.ts";
import type { NetworkSharing } from "../../../driver/networks.ts";
import type { State } from "../../../state/state.ts";
import { joinedNetworkOf, networkOwnerOf, type SharingContext, sharersOf } from "./shared-network.ts";

const container = (id: string, networkMode: string, status = ContainerStatus.RUNNING) =>
  create(ContainerRecordSchema, {
    id,
    name: `name-of-${id}`,
    hostConfig: { networkMode },
    state: { status },
  });

const owner = container("a", "host");
const joiner = container("b", "container:a");
const next = container("c", "container:name-of-b");
const stopped = container("d", "container:a", ContainerStatus.EXITED);
const orphan = container("e", "container:gone");
const alone = container("f", "host");
const sibling = container("g", "container:gone");
const all = [owner, joiner, next, stopped, orphan, alone, sibling];

const noSteps = () => ({ operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() });

function sharing(kind: NetworkSharing["kind"] = "agents", records = all): SharingContext {
  const containers = new ContainerTable();
  records.forEach(containers.changeInto(noSteps()).put);
  return { driver: { sharing: { kind } }, state: { containers } as unknown as State };
}

/** The containers with their fields counted as they are read. */
function counted(records: readonly ContainerRecord[]) {
  const count = { reads: 0 };
  const get = (record: ContainerRecord, field: keyof ContainerRecord): unknown => {
    count.reads++;
    return record[field];
  };
  const proxies = records.map((record) => new Proxy(record, { get } as ProxyHandler<ContainerRecord>));
  const context = sharing("agents", proxies);
  count.reads = 0;
  return { count, context, records: proxies };
}

describe("a network that containers share", () => {
  it("is the first one's of a chain, or what is left of it", () => {
    const owners = all.map((record) => networkOwnerOf(sharing(), record).id);
    assert.deepEqual(owners, ["a", "a", "a", "a", "e", "f", "g"]);
  });

  it("has the containers that run, whichever of them is asked for", () => {
    for (const record of [owner, joiner, next]) {
      assert.deepEqual(sharersOf(sharing(), record), ["a", "b", "c"]);
    }
  });

  it("outlives its owner", () => {
    assert.deepEqual(sharersOf(sharing(), orphan), ["e", "g"]);
  });

  it("is what its owner is joined to", () => {
    assert.equal(joinedNetworkOf(sharing(), owner), undefined);
    assert.deepEqual(joinedNetworkOf(sharing(), next), { owner, plan: { kind: "host" } });
    assert.throws(() => joinedNetworkOf(sharing(), container("x", "container:d")), { kind: "conflict" });
    assert.throws(() => joinedNetworkOf(sharing(), orphan), { kind: "system" });
  });

  it("is found once for all that share it, whoever has joined it and never started", () => {
    const { CREATED } = ContainerStatus;
    const created = Array.from({ length: 2_000 }, (_, at) => container(`n${at}`, "container:a", CREATED));
    const running = Array.from({ length: 199 }, (_, at) => container(`r${at}`, "container:name-of-a"));
    const { count, context, records } = counted([owner, ...running, ...created]);
    for (const record of records.slice(0, 200)) {
      assert.equal(sharersOf(context, record).length, 200);
      assert.equal(networkOwnerOf(context, record), records[0]);
    }
    assert.ok(count.reads < 10 * records.length, `${count.reads} fields read`);
  });

  it("is found once for all of a chain, also of one whose end is removed or that leads into a circle", () => {
    const links = Array.from({ length: 2_000 }, (_, at) => container(`n${at}`, `container:n${at + 1}`));
    const ends = [owner, container("e", "container:gone"), container("x", "container:n1000")];
    for (const end of ends) {
      const last = container("n2000", `container:${end.id}`);
      const { count, context, records } = counted([...links, last, end]);
      const owners = new Set(records.map((record) => networkOwnerOf(context, record).id));
      assert.deepEqual([...owners], [end.id === "x" ? "n1000" : end.id]);
      assert.equal(sharersOf(context, end).length, records.length);
      assert.ok(count.reads < 20 * records.length, `${count.reads} fields read`);
    }
  });

  it("has a container as soon as that starts, and no longer than it runs", () => {
    const context = sharing();
    const { put } = (context.state.containers as ContainerTable).changeInto(noSteps());
    const sharers = () => sharersOf(context, owner).toSorted();
    assert.deepEqual(sharers(), ["a", "b", "c"]);
    put(container("d", "container:a"));
    put(container("b", "container:a", ContainerStatus.EXITED));
    assert.deepEqual(sharers(), ["a", "c", "d"]);
    put(container("b", "host"));
    assert.deepEqual(sharers(), ["a", "d"]);
  });

  it("is its own where a container names itself", () => {
    const itself = container("x", "container:name-of-x");
    const context = sharing("agents", [itself]);
    assert.equal(networkOwnerOf(context, itself), itself);
    assert.deepEqual(sharersOf(context, itself), ["x"]);
    assert.throws(() => joinedNetworkOf(context, itself), { kind: "system" });
  });

  it("has one owner where containers name each other, as after a renaming", () => {
    const circle = [container("x", "container:name-of-y"), container("y", "container:name-of-z")];
    const last = container("z", "container:name-of-x");
    const beside = container("w", "container:z");
    const context = sharing("agents", [beside, last, ...circle]);
    for (const record of [beside, last, ...circle]) {
      assert.equal(networkOwnerOf(context, record).id, "x");
      assert.deepEqual(sharersOf(context, record).toSorted(), ["w", "x", "y", "z"]);
      assert.throws(() => joinedNetworkOf(context, record), { kind: "system" });
    }
  });

  it("is the driver's matter where that shares namespaces", () => {
    assert.equal(networkOwnerOf(sharing("namespace"), next), next);
    assert.deepEqual(sharersOf(sharing("namespace"), next), []);
    assert.equal(joinedNetworkOf(sharing("namespace"), next), undefined);
  });
});

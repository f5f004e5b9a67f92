import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
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

function sharing(kind: NetworkSharing["kind"] = "agents", records = all): SharingContext {
  const containers = new ContainerTable();
  records.forEach(
    containers.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() }).put,
  );
  return { driver: { sharing: { kind } }, state: { containers } as unknown as State };
}

describe("a network that containers share", () => {
  it("is the first one's of a chain, or what is left of it", () => {
    const owners = all.map((record) => networkOwnerOf(sharing(), record).id);
    assert.deepEqual(owners, ["a", "a", "a", "a", "e", "f", "g"]);
  });

  it("has the containers that run, whichever of them is asked for", () => {
    for (const record of [owner, joiner, next]) {
      assert.deepEqual(
        sharersOf(sharing(), record).map(({ id }) => id),
        ["a", "b", "c"],
      );
    }
  });

  it("outlives its owner", () => {
    assert.deepEqual(
      sharersOf(sharing(), orphan).map(({ id }) => id),
      ["e", "g"],
    );
  });

  it("is what its owner is joined to", () => {
    assert.equal(joinedNetworkOf(sharing(), owner), undefined);
    assert.deepEqual(joinedNetworkOf(sharing(), next), { owner, plan: { kind: "host" } });
    assert.throws(() => joinedNetworkOf(sharing(), container("x", "container:d")), { kind: "conflict" });
    assert.throws(() => joinedNetworkOf(sharing(), orphan), { kind: "system" });
  });

  it("is its own where a container names itself", () => {
    const itself = container("x", "container:name-of-x");
    const context = sharing("agents", [itself]);
    assert.equal(networkOwnerOf(context, itself), itself);
    assert.deepEqual(sharersOf(context, itself), [itself]);
    assert.throws(() => joinedNetworkOf(context, itself), { kind: "system" });
  });

  it("has one owner where containers name each other, as after a renaming", () => {
    const circle = [container("x", "container:name-of-y"), container("y", "container:name-of-z")];
    const last = container("z", "container:name-of-x");
    const beside = container("w", "container:z");
    const context = sharing("agents", [beside, last, ...circle]);
    for (const record of [beside, last, ...circle]) {
      assert.equal(networkOwnerOf(context, record).id, "x");
      const sharers = sharersOf(context, record).map(({ id }) => id);
      assert.deepEqual(sharers.toSorted(), ["w", "x", "y", "z"]);
      assert.throws(() => joinedNetworkOf(context, record), { kind: "system" });
    }
  });

  it("is the driver's matter where that shares namespaces", () => {
    assert.equal(networkOwnerOf(sharing("namespace"), next), next);
    assert.deepEqual(sharersOf(sharing("namespace"), next), []);
    assert.equal(joinedNetworkOf(sharing("namespace"), next), undefined);
  });
});

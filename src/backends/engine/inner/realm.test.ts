import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import type { HostConfigSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { CreateContainerRequestSchema } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema, NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../state/container-table.ts";
import { NetworkTable } from "../../state/network-table.ts";
import type { State } from "../../state/state.ts";
import { findContainer } from "../containers/decisions/lookup.ts";
import type { EngineContext } from "../context.ts";
import { admitCreation } from "./creation.ts";
import { PulledImages } from "./pulled-images.ts";
import { Realm } from "./realm.ts";

const imageId = `sha256:${"1".repeat(64)}`;
const rootId = "f".repeat(64);
const count = 1_000;
const idOf = (index: number): string => index.toString(16).padStart(4, "0").repeat(16);

/** A table of a socket's container and of others made there, which counts the reads of their IDs and images. */
class Counted extends ContainerTable {
  reads = 0;

  constructor() {
    super();
    const change = this.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() });
    change.put(create(ContainerRecordSchema, { id: rootId, name: "root", imageId, config: {} }));
    for (let index = 0; index < count; index++) {
      const labels = { "sockerless.inner-socket": rootId };
      const record = create(ContainerRecordSchema, {
        ...{ id: idOf(index), name: `c${index}`, imageId, config: { labels } },
      });
      for (const field of ["id", "imageMounts"] as const) {
        const value = record[field];
        Object.defineProperty(record, field, {
          get: () => {
            this.reads++;
            return value;
          },
        });
      }
      change.put(record);
    }
    this.reads = 0;
  }
}

async function admitted(hostConfig: MessageInitShape<typeof HostConfigSchema>) {
  const containers = new Counted();
  const context = {
    state: { containers, networks: new Map(), volumes: new Map() },
    images: { resolve: async () => ({ record: { id: imageId } }) },
  } as unknown as EngineContext;
  const realm = new Realm(context, new PulledImages(() => true), rootId);
  const request = create(CreateContainerRequestSchema, {
    ...{ name: "new", config: { image: "x" }, hostConfig: { networkMode: "none", ...hostConfig } },
  });
  await admitCreation(realm, request);
  return { request, reads: containers.reads };
}

it("a creation at a container's Docker socket reads the containers of all networks that it joins once", async (test) => {
  const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<string>() };
  const [containers, networks] = [new ContainerTable(), new NetworkTable()];
  const names = Array.from({ length: 100 }, (_, index) => `n${index}`);
  const endpoints = Object.fromEntries(
    names.map((name, index) => [name, { networkId: idOf(index), dnsNames: ["db"] }]),
  );
  for (const [name, { networkId }] of Object.entries(endpoints)) {
    networks.changeInto(steps).put(create(NetworkRecordSchema, { network: { id: networkId, name } }));
  }
  for (const id of [rootId, idOf(0)]) {
    const record = create(ContainerRecordSchema, { ...{ id, name: id, imageId, config: {} }, endpoints });
    containers.changeInto(steps).put(record);
  }
  const context = {
    state: { containers, networks, volumes: new Map() },
    images: { resolve: async () => ({ record: { id: imageId } }) },
  } as unknown as EngineContext;
  const passes = test.mock.method(containers, "values");
  const admit = (name: string) => {
    const realm = new Realm(context, new PulledImages(() => true), rootId);
    const networking = { endpoints: Object.fromEntries(names.map((each) => [each, {}])) };
    const hostConfig = { networkMode: "n0" };
    const request = { name, config: { image: "x" }, hostConfig, networking };
    return admitCreation(realm, create(CreateContainerRequestSchema, request));
  };
  await admit("new");
  assert.ok(passes.mock.callCount() < 5, `${passes.mock.callCount()} passes over all containers`);
  await assert.rejects(admit("DB"), /the name "db" is in use in network n0/);
});

it("a name with a dot is admitted at a container's Docker socket where it shadows nobody's", async () => {
  const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<string>() };
  const [containers, networks] = [new ContainerTable(), new NetworkTable()];
  const made = { "sockerless.inner-socket": rootId };
  for (const [index, [name, labels]] of Object.entries({ bridge: {}, mine: made, shared: {} }).entries()) {
    networks
      .changeInto(steps)
      .put(create(NetworkRecordSchema, { network: { id: idOf(index), name, labels } }));
  }
  const endpoints = { bridge: { networkId: idOf(0) }, shared: { networkId: idOf(2) } };
  const root = create(ContainerRecordSchema, {
    ...{ id: rootId, name: "root", imageId, config: {} },
    endpoints,
  });
  containers.changeInto(steps).put(root);
  const context = {
    state: { containers, networks, volumes: new Map() },
    images: { resolve: async () => ({ record: { id: imageId } }) },
  } as unknown as EngineContext;
  const admit = (name: string, networkMode: string) => {
    const realm = new Realm(context, new PulledImages(() => true), rootId);
    const request = { name, config: { image: "x" }, hostConfig: { networkMode } };
    return admitCreation(realm, create(CreateContainerRequestSchema, request));
  };
  for (const name of ["root.", "root.other", "github.com"]) {
    await admit(name, "bridge");
    await admit(name, "mine");
    await assert.rejects(admit(name, "shared"), /which has a dot, in network shared is not allowed/);
  }
  await admit("free", "shared");
});

const shortIds = Array.from({ length: count }, (_, index) => idOf(index).slice(0, 12));

describe("a creation at a container's Docker socket", { timeout: 60_000 }, () => {
  it("does not read all containers for each that it names by their short IDs", async () => {
    const { request, reads } = await admitted({ volumesFrom: shortIds });
    assert.deepEqual(
      request.hostConfig?.volumesFrom,
      shortIds.map((_, index) => idOf(index)),
    );
    assert.ok(reads < 100 * count, `${reads} reads of ${count} containers`);
  });

  it("does not read all containers for each image that it mounts", async () => {
    const mounts = Array.from({ length: count }, (_, index) => ({
      ...{ type: "image", source: "x", target: `/m${index}` },
    }));
    const { reads } = await admitted({ mounts });
    assert.ok(reads < 100 * count, `${reads} reads of ${count} containers`);
  });
});

it("a container is found by the beginning of its ID without a look at all", () => {
  const containers = new Counted();
  const state = { containers } as unknown as State;
  assert.deepEqual(
    shortIds.map((id) => findContainer(state, id).id),
    shortIds.map((_, index) => idOf(index)),
  );
  assert.ok(containers.reads < 100 * count, `${containers.reads} reads of ${count} containers`);
  assert.equal(findContainer(state, "f").id, rootId);
  assert.throws(() => findContainer(state, "00"), /multiple IDs found with provided prefix: 00/);
  assert.throws(() => findContainer(state, "ffff0"), /No such container: ffff0/);
});

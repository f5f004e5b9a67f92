import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import {
  HostConfigSchema,
  ResourcesSchema,
  RestartPolicySchema,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { givenSettings, updatedHostConfig } from "./update-limits.ts";

type Limits = MessageInitShape<typeof ResourcesSchema>;

const updated = (known: Limits, changes: Limits) =>
  updatedHostConfig(
    create(HostConfigSchema, { resources: known }),
    create(ResourcesSchema, changes),
    undefined,
  ).resources;

describe("an update", () => {
  it("changes what is said and leaves the rest", () => {
    const resources = updated({ memory: 1n, memorySwap: 8n, cpuShares: 2n }, { memory: 4n, cpusetCpus: "0" });
    assert.deepEqual(
      [resources?.memory, resources?.memorySwap, resources?.cpuShares, resources?.cpusetCpus],
      [4n, 8n, 2n, "0"],
    );
  });

  it("may say that there is no limit of processes", () => {
    assert.equal(updated({ pidsLimit: 5n }, { pidsLimit: -1n })?.pidsLimit, 0n);
    assert.equal(updated({ pidsLimit: 5n }, {})?.pidsLimit, 5n);
    assert.deepEqual(givenSettings(create(ResourcesSchema, { pidsLimit: 0n })), { pidsLimit: 0n });
  });

  it("does not count processors in two ways", () => {
    for (const [known, changes] of [
      [{ cpuPeriod: 1n }, { nanoCpus: 1n }],
      [{ cpuQuota: 1n }, { nanoCpus: 1n }],
      [{ nanoCpus: 1n }, { cpuPeriod: 1n }],
      [{ nanoCpus: 1n }, { cpuQuota: 1n }],
    ] as const) {
      assert.throws(() => updated(known, changes), { kind: "conflict", message: /^Conflicting options: / });
    }
  });

  it("keeps memory below the swap limit", () => {
    assert.throws(() => updated({ memorySwap: 3n }, { memory: 4n }), { kind: "conflict" });
    assert.equal(updated({ memorySwap: 3n }, { memory: 4n, memorySwap: 8n })?.memorySwap, 8n);
  });

  it("changes the restart policy where one is named", () => {
    const host = create(HostConfigSchema, { restartPolicy: { name: "always" } });
    const none = create(ResourcesSchema);
    const policy = (name: string) => create(RestartPolicySchema, { name });
    assert.equal(updatedHostConfig(host, none, policy("")).restartPolicy?.name, "always");
    assert.equal(updatedHostConfig(host, none, policy("no")).restartPolicy?.name, "no");
    const removing = create(HostConfigSchema, { autoRemove: true });
    assert.equal(updatedHostConfig(removing, none, policy("no")).restartPolicy?.name, "no");
    assert.throws(() => updatedHostConfig(removing, none, policy("always")), { kind: "conflict" });
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { conflict, invalid, systemError } from "../../../common/errors.ts";
import { IpamPoolSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { type NetworkRecord, NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { makeInFreePool, withPool } from "./free-pool.ts";

const poolOf = (record: NetworkRecord) => record.network?.pools[0]?.subnet ?? "";
const planned = (subnet: string, configured = false) =>
  create(NetworkRecordSchema, { network: { pools: [{ subnet, configured }] } });
const fabric = (ensure: (subnet: string) => string) => ({
  ensure: async (record: NetworkRecord) => ensure(poolOf(record)),
  remove: async () => {},
  usedRoutes: async () => [],
});

test("a pool that is taken is left to whoever has it, and the next one tried", async () => {
  const tried: string[] = [];
  const made = await makeInFreePool(
    fabric((subnet) => {
      tried.push(subnet);
      if (tried.length < 3) {
        throw conflict(`${subnet} is taken`);
      }
      return `bridge of ${subnet}`;
    }),
    planned("p0"),
    async (record, refused) => withPool(record, create(IpamPoolSchema, { subnet: `p${refused.length}` })),
  );
  assert.deepEqual(tried, ["p0", "p1", "p2"]);
  assert.deepEqual([poolOf(made.record), made.reference], ["p2", "bridge of p2"]);
});

test("what was asked for is not replaced, and other failures are failures", async () => {
  const choose = async () => assert.fail("a pool was chosen");
  const failing = (error: Error) =>
    fabric(() => {
      throw error;
    });
  await assert.rejects(makeInFreePool(failing(conflict("taken")), planned("p0", true), choose), /taken/);
  await assert.rejects(makeInFreePool(failing(systemError("broken")), planned("p0"), choose), /broken/);
});

test("when no pool is left, that is what is said", async () => {
  const taken = fabric((subnet) => {
    throw conflict(`${subnet} is taken`);
  });
  const made = makeInFreePool(taken, planned("p0"), async () => {
    throw invalid("no more pools");
  });
  await assert.rejects(made, /no more pools/);
});

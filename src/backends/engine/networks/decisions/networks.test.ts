import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { StringListSchema } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import { NetworkSchema } from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import { NetworkRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../../state/state.ts";
import { listNetworks } from "./networks.ts";

it("a list of networks reads the time of each that it has once", () => {
  let reads = 0;
  const networks = new Map(
    Array.from({ length: 512 }, (_, index) => {
      const network = create(NetworkSchema, { id: `${index}`, name: `net${index}` });
      Object.defineProperty(network, "created", {
        enumerable: true,
        get: () => {
          reads += 1;
          return timestampFromMs(((index * 7) % 512) * 1_000);
        },
      });
      return [network.id, { ...create(NetworkRecordSchema), network }];
    }),
  );
  const state = { networks, containers: new Map() } as unknown as State;
  const times = listNetworks(state, {}).map(({ created }) => Number(created?.seconds));
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
  assert.ok(reads <= 4 * networks.size, `${reads} reads`); // The answer has it too.
  reads = 0;
  const name = create(StringListSchema, { values: ["net12"] });
  assert.equal(listNetworks(state, { name }).length, 11);
  assert.ok(reads <= 44, `${reads} reads`);
});

import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema, NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../state/container-table.ts";
import { NetworkTable } from "../../state/network-table.ts";
import type { State } from "../../state/state.ts";
import type { EngineContext } from "../context.ts";
import { PulledImages } from "./pulled-images.ts";
import { Realm } from "./realm.ts";
import { findNetwork } from "../networks/decisions/networks.ts";

const rootId = "f".repeat(64);
const idOf = (index: number): string => index.toString(16).padStart(4, "0").repeat(16);
const noSteps = () => ({ operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() });

/** A table of networks, some of which a socket has made; counts the passes over all of them. */
class Counted extends NetworkTable {
  passes = 0;

  constructor() {
    super();
    const change = this.changeInto(noSteps());
    for (let index = 0; index < 512; index++) {
      const labels: Record<string, string> = index % 256 === 0 ? { "sockerless.inner-socket": rootId } : {};
      change.put(
        create(NetworkRecordSchema, {
          network: { id: idOf(index), name: `n${index}`, configOnly: true, labels },
        }),
      );
    }
  }

  override values() {
    this.passes++;
    return super.values();
  }
}

it("a network is found by its ID, its name or a prefix, or not at all, without a look at all", () => {
  const networks = new Counted();
  const find = (reference: string) => findNetwork({ networks } as unknown as State, reference).network.name;
  assert.deepEqual([idOf(3), "n3", "0003", idOf(3).slice(0, 12)].map(find), ["n3", "n3", "n3", "n3"]);
  for (const unknown of ["", "n512", "00031", "f", "none"]) {
    assert.throws(() => find(unknown), { message: `network ${unknown} not found` });
  }
  assert.equal(networks.passes, 0);
  assert.throws(() => find("00"), /network 00 is ambiguous \(256 matches found based on ID prefix\)/);
});

it("a container's Docker socket finds those that it sees, without a look at all", () => {
  const networks = new Counted();
  const containers = new ContainerTable();
  containers.changeInto(noSteps()).put(create(ContainerRecordSchema, { id: rootId, config: {} }));
  const context = { state: { containers, networks } } as unknown as EngineContext;
  const realm = new Realm(context, new PulledImages(() => true), rootId);
  const find = (reference: string) => realm.network(reference).name;
  assert.deepEqual([idOf(256), "n256", "01"].map(find), ["n256", "n256", "n256"]);
  for (const unknown of ["", idOf(3), "n3", "0003", "f"]) {
    assert.throws(() => find(unknown), { message: `network ${unknown} not found` });
  }
  assert.equal(networks.passes, 0);
  assert.throws(() => find("0"), /network 0 is ambiguous \(2 matches/);
});

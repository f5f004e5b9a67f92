import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { HostConfigSchema } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../../../state/container-table.ts";
import type { State } from "../../../../state/state.ts";
import { planLinks } from "./links.ts";

const length = 100;

/** A chain of containers of which each shares the network of the one before it; counts lookups. */
class Chain extends ContainerTable {
  lookups = 0;

  constructor(networkMode: string) {
    super();
    const change = this.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() });
    for (let index = 0; index < length; index++) {
      const mode = index === 0 ? networkMode : `container:c${index - 1}`;
      change.put(
        create(ContainerRecordSchema, {
          id: `c${index}`,
          name: `n${index}`,
          hostConfig: { networkMode: mode },
        }),
      );
    }
  }

  override get(id: string) {
    this.lookups++;
    return super.get(id);
  }
}

function planned(containers: Chain, links: readonly string[]) {
  const config = create(HostConfigSchema, { networkMode: "bridge", links: [...links] });
  return planLinks({ containers } as unknown as State, config).map(({ containerId }) => containerId);
}

it("the links of a container pass a chain of shared networks once", () => {
  const containers = new Chain("bridge");
  const links = [...Array<string>(50).fill("c99"), "c50", "c98", "c0"];
  assert.deepEqual(
    planned(containers, links),
    links.map(() => "c0"),
  );
  assert.ok(containers.lookups < 2 * length + links.length, `${containers.lookups} lookups`);
});

it("a link to containers whose network modes form a cycle is refused", () => {
  assert.throws(() => planned(new Chain("container:c99"), ["c5"]), /cannot link to \/n5: .* form a cycle/);
});

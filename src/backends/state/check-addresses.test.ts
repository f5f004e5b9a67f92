import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerStatus } from "../../gen/sockerless/backend/v1/container_pb.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  NetworkRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import { wrongAddresses } from "./check-addresses.ts";

const network = create(NetworkRecordSchema, {
  network: { id: "net", name: "shop", pools: [{ subnet: "172.18.0.0/16", gateway: "172.18.0.1" }] },
});

function container(id: string, ipAddress: string, seconds: number, isRunning = false): ContainerRecord {
  const status = isRunning ? ContainerStatus.RUNNING : ContainerStatus.EXITED;
  return create(ContainerRecordSchema, {
    id,
    created: { seconds: BigInt(seconds) },
    state: { status },
    endpoints: { shop: { networkId: "net", ipAddress, ipPrefixLen: ipAddress === "" ? 0 : 16 } },
  });
}

describe("addresses of containers", () => {
  it("are right where each container has its own, or none", () => {
    const containers = [
      container("a", "172.18.0.2", 1),
      container("b", "172.18.0.3", 2),
      container("c", "", 3),
    ];
    assert.deepEqual(wrongAddresses(containers, [network]), []);
  });

  it("are left to the container that runs, else to the older one", () => {
    const [wrong, ...others] = wrongAddresses(
      [container("old", "172.18.0.2", 1), container("new", "172.18.0.2", 2, true)],
      [network],
    );
    assert.deepEqual(others, []);
    assert.equal(wrong?.finding.what, "container!old");
    assert.match(wrong.finding.fault, /172\.18\.0\.2 in network shop, as container!new/);
    assert.equal(wrong.mended?.endpoints["shop"]?.ipAddress, "");
  });

  it("are not taken off a container that runs", () => {
    const both = [container("one", "172.18.0.2", 1, true), container("two", "172.18.0.2", 2, true)];
    assert.deepEqual(
      wrongAddresses(both, [network]).map(({ finding, mended }) => [finding.what, mended]),
      [["container!two", undefined]],
    );
  });

  it("are of their network", () => {
    const [wrong] = wrongAddresses([container("one", "10.0.0.2", 1)], [network]);
    assert.match(wrong?.finding.fault ?? "", /which is not of network shop/);
  });
});

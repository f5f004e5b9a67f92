import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { notFound } from "../../../common/errors.ts";
import { ImageRecordSchema, NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { parseEntry, wantedTasks } from "./templates.ts";

describe("an entry of pool.images", () => {
  it("names an image and a count, and on demand a size and a network", () => {
    assert.deepEqual(parseEntry("host:5000/node:22=2"), {
      ...{
        kind: "host:5000/node:22",
        image: "host:5000/node:22",
        count: 2,
        cpus: 0,
        memory: 0,
        network: "bridge",
      },
    });
    assert.deepEqual(parseEntry("node=1 cpus=0.5 memory=2g network=ci"), {
      ...{
        kind: "node cpus=0.5 memory=2g network=ci",
        image: "node",
        count: 1,
        cpus: 0.5,
        memory: 2 * 1024 ** 3,
        network: "ci",
      },
    });
  });

  it("is passed over, with the reason, while its image or its network is missing", async () => {
    const missed: string[] = [];
    const sources = {
      findImage: (reference: string) => {
        if (reference !== "here") {
          throw notFound(`No such image: ${reference}`);
        }
        return create(ImageRecordSchema, { id: "sha256:1" });
      },
      networks: () => [create(NetworkRecordSchema, { network: { name: "bridge" } })],
      requests: { make: async () => "request" },
    };
    const entries = ["here=1", "gone=1", "here=1 network=none-such"].map(parseEntry);
    assert.deepEqual(await wantedTasks(entries, sources, (_entry, reason) => missed.push(reason)), [
      { request: "request", kind: "here", count: 1 },
    ]);
    assert.deepEqual(new Set(missed), new Set(["No such image: gone", "network none-such not found"]));
  });
});

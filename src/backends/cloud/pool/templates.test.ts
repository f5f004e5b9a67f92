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
        hours: undefined,
      },
    });
    assert.deepEqual(parseEntry("node=1 cpus=0.5 memory=2g network=ci hours=07:30-18:00"), {
      ...{
        kind: "node cpus=0.5 memory=2g network=ci",
        image: "node",
        count: 1,
        cpus: 0.5,
        memory: 2 * 1024 ** 3,
        network: "ci",
        hours: { from: 450, to: 1080 },
      },
    });
  });

  it("asks for tasks at its hours, which may go beyond midnight", async () => {
    const sources = {
      findImage: () => create(ImageRecordSchema, { id: "sha256:1" }),
      networks: () => [create(NetworkRecordSchema, { network: { name: "bridge" } })],
      requests: { make: async () => "request" },
    };
    const entries = ["a=1 hours=07:30-18:00", "b=1 hours=22:00-06:00", "c=1"].map(parseEntry);
    const asking = async (time: string): Promise<string> => {
      const nowMs = Date.parse(`2026-11-26T${time}:00Z`);
      const wanted = await wantedTasks(entries, nowMs, sources, () => {});
      return wanted.map(({ kind }) => kind).join("");
    };
    assert.equal(await asking("07:29"), "c");
    assert.equal(await asking("07:30"), "ac");
    assert.equal(await asking("17:59"), "ac");
    assert.equal(await asking("18:00"), "c");
    assert.equal(await asking("22:00"), "bc");
    assert.equal(await asking("05:59"), "bc");
    assert.equal(await asking("06:00"), "c");
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
    assert.deepEqual(await wantedTasks(entries, 0, sources, (_entry, reason) => missed.push(reason)), [
      { request: "request", kind: "here", count: 1 },
    ]);
    assert.deepEqual(new Set(missed), new Set(["No such image: gone", "network none-such not found"]));
  });
});

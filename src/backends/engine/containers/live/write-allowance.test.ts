import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { LargeWrites, WriteAllowance } from "./write-allowance.ts";

const labelled = (bytes: number) =>
  create(ContainerRecordSchema, {
    config: { labels: { long: "x".repeat(bytes) } },
  });

test("a large record is written in its turn, however often agents of larger ones report", () => {
  const large = new LargeWrites();
  const floods = Array.from({ length: 12 }, () => new WriteAllowance());
  const honest = new WriteAllowance();
  const [long, short] = [labelled(2 ** 20), labelled(2 ** 15)];
  let [written, recorded] = [0, 0];
  for (let ms = 0; ms < 120_000; ms += 10) {
    const nowNs = BigInt(ms) * 1_000_000n;
    written += floods.filter((each) => each.takes(long, 1, nowNs, large)).length;
    if (ms % 30_000 === 29_990 && honest.takes(short, 1, nowNs, large)) {
      recorded += 1;
    }
  }
  assert.ok(recorded >= 2, `${recorded} of 4 reports`);
  assert.ok(written > 400 && written < 520, `${written} MiB in 120 s`);
});

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { KubeConfig, type V1Pod } from "@kubernetes/client-node";

import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import type { KubernetesClient } from "../api/client.ts";
import { PodWatch } from "./pod-watch.ts";

const made: V1Pod = { metadata: { name: "sockerless-cccccccccccc-1", uid: "uid" } };
const task = "sockerless-cccccccccccc-1/uid";

describe("pods that are watched", () => {
  for (const isNotedBefore of [true, false]) {
    const when = isNotedBefore ? "before" : "while";
    it(`count as ${isNotedBefore ? "" : "not "}deleted if a list lacks them that were noted ${when} it was made`, async () => {
      const parts = {
        config: new KubeConfig(),
        async *pages() {
          if (!isNotedBefore) {
            watch.note(made);
          }
          yield { items: [], metadata: { resourceVersion: "1" } };
        },
      };
      const watch: PodWatch = new PodWatch({
        client: parts as unknown as KubernetesClient,
        selector: "",
        changed: () => {},
        clock: new ManualClock(),
        logger: capturedLogger().logger,
      });
      if (isNotedBefore) {
        watch.note(made);
      }
      const pods = await watch.pods(AbortSignal.timeout(5_000));
      assert.equal(pods.get(task)?.deleted, isNotedBefore);
      await watch.close();
    });
  }
});

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { ContainerConfigSchema } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import { NextStepSchema } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema, ImageRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { withNextStep } from "./next-step.ts";

const images = new Map(
  [
    { id: "sha256:2", diffIds: ["sha256:a", "sha256:b"] },
    { id: "sha256:committed", diffIds: ["sha256:a"] },
    { id: "sha256:other", diffIds: ["sha256:c"] },
  ].map((each) => [each.id, create(ImageRecordSchema, each)]),
);

function context() {
  const config = create(ContainerConfigSchema, { env: ["FROM=image"], workingDir: "/image" });
  return {
    driver: { launches: { steps: { kind: "in-its-files" } } },
    images: { resolve: async (id: string) => ({ record: images.get(id), config }) },
  } as unknown as Pick<EngineContext, "driver" | "images">;
}

const ran = {
  id: "c",
  imageId: "sha256:1",
  config: {
    ...{ labels: { "sockerless.build": "container" }, hostname: "host", user: "root", env: ["A=1"] },
    ...{ entrypoint: { values: ["/bin/sh"] }, cmd: { values: ["-c", "one"] } },
  },
  state: { startedAt: { seconds: 1n } },
} satisfies MessageInitShape<typeof ContainerRecordSchema>;

const step = create(NextStepSchema, {
  image: "sha256:2",
  config: {
    ...{ user: "app", env: ["B=2"], hostname: "other", labels: { more: "x" } },
    ...{ entrypoint: { values: ["/bin/ash"] }, cmd: { values: ["-c", "two"] } },
  },
});

const next = (record: MessageInitShape<typeof ContainerRecordSchema>, committed = "") =>
  withNextStep(context(), create(ContainerRecordSchema, record), { ...step, committed });

describe("the next step of a container", () => {
  it("is its command, user and variables on the state of the last one", async () => {
    const { record, missingLayers } = await next(ran);
    const { imageId, layerDiffIds, path, args, config } = record;
    assert.deepEqual([imageId, layerDiffIds, missingLayers], ["sha256:2", ["sha256:a", "sha256:b"], 0]);
    assert.deepEqual([path, args], ["/bin/ash", ["-c", "two"]]);
    assert.deepEqual([config?.user, config?.workingDir, config?.hostname], ["app", "/image", "host"]);
    assert.deepEqual(config?.env.toSorted(), ["B=2", "FROM=image"]);
    assert.deepEqual(config?.labels, ran.config.labels);
  });

  it("is for containers of builds alone, that have run", async () => {
    await assert.rejects(next({ ...ran, config: { ...ran.config, labels: {} } }), { kind: "conflict" });
    await assert.rejects(next({ ...ran, state: {} }), { kind: "conflict" });
  });

  it("lacks the layers that its image has above the last step's state, on which it has to stand", async () => {
    assert.equal((await next(ran, "sha256:committed")).missingLayers, 1);
    await assert.rejects(next(ran, "sha256:other"), { kind: "invalid" });
  });
});

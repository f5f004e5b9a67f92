import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { invalid } from "../../../common/errors.ts";
import { createLogger } from "../../../common/logger.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  type ImageRecord,
  ImageRecordSchema,
  Phase,
  SealedImageSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundWorkload } from "../../driver/workloads.ts";
import type { Change } from "../../state/state.ts";
import { adoptContainers, LostState } from "./adoption.ts";
import type { EngineContext } from "../context.ts";

describe("a container that is taken over", () => {
  let containers: Map<string, ContainerRecord>;
  let images: Map<string, ImageRecord>;
  let lines: { readonly level: string; readonly msg: string }[];
  let context: EngineContext;

  beforeEach(() => {
    containers = new Map();
    images = new Map();
    lines = [];
    const change = {
      containers: { put: (record: ContainerRecord) => void containers.set(record.id, record) },
    } as unknown as Change;
    context = {
      state: {
        containers,
        images,
        networks: new Map(),
        volumes: new Map(),
        commit: (describeChange: (change: Change) => void) => Promise.resolve(describeChange(change)),
      },
      images: {
        adopt: ({ record }: { record?: ImageRecord }) =>
          record?.id === "sha256:broken"
            ? Promise.reject(invalid("verification failed"))
            : Promise.resolve(images.set(record?.id ?? "", record ?? create(ImageRecordSchema))),
      },
      clock: new ManualClock(),
      logger: createLogger({
        level: "info",
        process: "test",
        destination: { write: (line) => void lines.push(JSON.parse(line)) },
      }),
    } as unknown as EngineContext;
  });

  const found = (imageId: string, networks: readonly string[]): FoundWorkload => ({
    containerId: "c1",
    generation: 1n,
    agent: { kind: "unix", path: "/agent" },
    boundPorts: [],
    exit: undefined,
    execExits: new Map(),
    record: create(ContainerRecordSchema, {
      id: "c1",
      name: "web",
      imageId,
      endpoints: Object.fromEntries(networks.map((name) => [name, { networkId: `id of ${name}` }])),
      mounts: [{ type: "volume", name: "data" }],
    }),
    images: [create(SealedImageSchema, { record: { id: imageId } })],
  });

  it("brings its image, and one warning names all that nobody knows any more", async () => {
    const adopted = await adoptContainers(context, new LostState(context), [
      found("sha256:there", ["bridge", "side"]),
    ]);
    assert.deepEqual(
      adopted.map(({ name }) => name),
      ["web"],
    );
    assert.ok(images.has("sha256:there"));
    const warnings = lines.filter(({ level }) => level === "warn").map(({ msg }) => msg);
    assert.deepEqual(warnings, [
      "container web is taken over; what nobody knows any more: volume data, network side",
    ]);
  });

  it("comes without its image where that cannot be taken over", async () => {
    await adoptContainers(context, new LostState(context), [found("sha256:broken", [])]);
    assert.ok(containers.has("c1"));
    assert.deepEqual(
      lines.map(({ level, msg }) => [level, msg]),
      [
        ["error", "image sha256:broken cannot be taken over: verification failed"],
        ["warn", "container web is taken over; what nobody knows any more: image sha256:broken, volume data"],
      ],
    );
  });

  it("has another name where another container has its own, as after the restore of a backup", async () => {
    containers.set("c0", create(ContainerRecordSchema, { id: "c0", name: "web" }));
    const adopted = await adoptContainers(context, new LostState(context), [found("sha256:there", [])]);
    assert.deepEqual(
      [...adopted, ...containers.values()].map(({ id, name }) => `${id} ${name}`),
      ["c1 web-c1", "c0 web", "c1 web-c1"],
    );
  });

  it("is one that the state knew when the search began, if only to be created", async () => {
    containers.set("c1", create(ContainerRecordSchema, { id: "c1", phase: Phase.CREATING }));
    const lost = new LostState(context);
    containers.delete("c1"); // As what has run was created.
    assert.equal((await adoptContainers(context, lost, [found("sha256:there", [])])).length, 1);
  });

  it("is none that the state knew when the search began", async () => {
    containers.set("c1", create(ContainerRecordSchema, { id: "c1" }));
    const lost = new LostState(context);
    containers.clear(); // It was removed meanwhile.
    assert.deepEqual(await adoptContainers(context, lost, [found("sha256:there", [])]), []);
    assert.equal(containers.size, 0);
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { GetDiskUsageResponseSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { ApiVersion, maximumApiVersion } from "../api-version.ts";
import { diskUsageToJson } from "./disk-usage.ts";

test("the objects of a disk usage are made as they are written: there may be 65,536 of each kind", () => {
  const usage = create(GetDiskUsageResponseSchema, {
    images: [{ id: "i" }],
    containers: [{ id: "c" }],
    volumes: [{ volume: { name: "v" } }],
  });
  const made: string[] = [];
  for (const [object, key] of [
    [usage.images[0], "labels"],
    [usage.containers[0], "labels"],
    [usage.volumes[0], "volume"],
  ] as const) {
    const value: unknown = Reflect.get(object ?? {}, key);
    const get = (): unknown => {
      made.push(key);
      return value;
    };
    Object.defineProperty(object, key, { get });
  }
  const json = diskUsageToJson(usage, [], () => true, new ApiVersion(maximumApiVersion));
  assert.deepEqual(made, []);
  const [images, containers, volumes] = ["Images", "Containers", "Volumes"].map((kind) => [
    ...(json[kind] as Iterable<Readonly<Record<string, unknown>>>),
  ]);
  assert.deepEqual([images?.[0]?.["Id"], containers?.[0]?.["Id"], volumes?.[0]?.["Name"]], ["i", "c", "v"]);
});

/** Measures of an image of 250 MB: its way in and out. */
import { randomBytes, randomUUID } from "node:crypto";
import { gzipSync } from "node:zlib";

import { TestRegistry } from "../support/registry.ts";
import { tarOf } from "../support/tar.ts";
import type { Measure } from "./measures.ts";
import type { Call } from "./measuring-client.ts";

const fileCount = 264;
const fileBytes = 947_000;

const name = (at: number) => `file${at}`;
const noise = randomBytes((fileCount / 2) * fileBytes);
const text = Buffer.alloc(fileBytes, "A line of text that is like many others, as in a program's source.\n");

/** A tar that no daemon has seen: 264 files, half of them text, half noise. */
async function imageTar(): Promise<Buffer> {
  return await tarOf([
    { name: "id", content: randomUUID() },
    ...Array.from({ length: fileCount / 2 }, (_, at) => ({ name: name(at), content: text })),
    ...Array.from({ length: fileCount / 2 }, (_, at) => ({
      name: name(fileCount / 2 + at),
      content: noise.subarray(at * fileBytes, (at + 1) * fileBytes),
    })),
  ]);
}

/** A request whose progress is read to the end. */
const follow = (path: string): Call => ({ work: "call", method: "POST", path, progress: true });
const importOf = (repo: string): Call => ({
  ...follow(`/images/create?fromSrc=-&tag=1&repo=${repo}`),
  bodyType: "application/x-tar",
});

/** They are alike on every network. */
export const imageMeasures: readonly Measure[] = [
  {
    name: "image import",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: async ({ client, api }) => {
      const time = await client.time(importOf("imported"), await imageTar());
      await api.call("DELETE", "/images/imported:1");
      return time;
    },
  },
  {
    name: "image push",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: async ({ client, api }) => {
      await using registry = await TestRegistry.start();
      const pushed = `${registry.host}/pushed`;
      await client.time(importOf(pushed), await imageTar());
      // Credentials in the body: those of nobody.
      const time = await client.time(follow(`/images/${pushed}/push?tag=1`), "{}");
      await api.call("DELETE", `/images/${pushed}:1`);
      return time;
    },
  },
  {
    name: "image pull",
    unit: "ms",
    bar: { most: 1 },
    repeat: 1,
    run: async ({ client, api }) => {
      await using registry = await TestRegistry.start();
      const layers = [await imageTar()];
      await registry.push("pulled", "1", { layers, config: {} }, [gzipSync(layers[0] ?? "", { level: 6 })]);
      const pulled = `${registry.host}/pulled`;
      const time = await client.time(follow(`/images/create?tag=1&fromImage=${pulled}`));
      await api.call("DELETE", `/images/${pulled}:1`);
      return time;
    },
  },
];

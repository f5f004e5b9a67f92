/**
 * `npm run image -- --output FILE [--reference NAME:TAG] [--gzip-level N]`: the container image of sockerless as an OCI
 * archive, built from this checkout without a Docker engine. It holds Node with the libraries that it needs, the npm
 * packages that run, the compiled program and the agent; no shell, no package manager. The image is for the processor of
 * this machine, and for the cloud backends and frontends: the `local` backend needs an OCI runtime, which it lacks.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { type Layer, writeArchive } from "./image/archive.ts";
import { applicationFiles, baseFiles, packageFiles, runtimeFiles } from "./image/contents.ts";
import { root } from "./program.ts";

const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
const { values } = parseArgs({
  options: {
    output: { type: "string" },
    reference: { type: "string", default: `sockerless:${version}` },
    "gzip-level": { type: "string", default: "6" },
  },
});
if (values.output === undefined) {
  console.error("usage: npm run image -- --output FILE [--reference NAME:TAG] [--gzip-level N]");
  process.exit(2);
}

// What changes least comes first, so that a push of a new version transfers only the last layer.
const layers: Layer[] = [
  { comment: "Node and its libraries", files: [...baseFiles(), ...(await runtimeFiles())] },
  { comment: "npm packages", files: await packageFiles() },
  { comment: `sockerless ${version}`, files: await applicationFiles() },
];
const digest = await writeArchive({
  output: values.output,
  reference: values.reference,
  gzipLevel: Number(values["gzip-level"]),
  layers,
  config: {
    Entrypoint: ["node", "--enable-source-maps", "/opt/sockerless/dist/src/cli/main.js"],
    Cmd: ["--help"],
    Env: ["PATH=/usr/local/bin:/usr/bin:/bin", "NODE_ENV=production"],
    WorkingDir: "/",
    Labels: {
      "org.opencontainers.image.title": "sockerless",
      "org.opencontainers.image.version": version,
    },
  },
});
console.log(`${values.reference}@${digest}`);

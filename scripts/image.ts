/**
 * `npm run image`: the container image of sockerless as an OCI
 * archive, built from this checkout without a Docker engine. It holds Node with the libraries that it needs, the npm
 * packages that run, the compiled program and the agent; no shell, no package manager. The image is for the processor of
 * this machine, and for the cloud backends and frontends: the `local` backend needs an OCI runtime, which it lacks.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { Command } from "commander";

import { type Layer, writeArchive } from "./image/archive.ts";
import { applicationFiles, baseFiles, packageFiles, runtimeFiles } from "./image/contents.ts";
import { root } from "./program.ts";

const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
const { output, reference, gzipLevel } = new Command("npm run image --")
  .description("Writes the container image of sockerless as an OCI archive.")
  .allowExcessArguments(false)
  .showHelpAfterError("See --help.")
  .requiredOption("--output <file>", "of the archive")
  .option("--reference <name:tag>", "of the image in it", `sockerless:${version}`)
  .option("--gzip-level <number>", "0 to 9", "6")
  .parse()
  .opts<{ output: string; reference: string; gzipLevel: string }>();

// Files that change least come first, so that a push of a new version transfers only the last layer.
const layers: Layer[] = [
  { comment: "Node and its libraries", files: [...baseFiles(), ...(await runtimeFiles())] },
  { comment: "npm packages", files: await packageFiles() },
  { comment: `sockerless ${version}`, files: await applicationFiles() },
];
const digest = await writeArchive({
  output,
  reference,
  gzipLevel: Number(gzipLevel),
  layers,
  config: {
    // As bin/sockerless starts it, which needs a shell.
    Entrypoint: [
      ...["node", "--disable-sigusr1", "--enable-source-maps", "--expose-gc"],
      "/opt/sockerless/dist/src/cli/sockerless.js",
    ],
    Cmd: ["--help"],
    Env: ["PATH=/usr/local/bin:/usr/bin:/bin", "NODE_ENV=production", "MALLOC_ARENA_MAX=2"],
    WorkingDir: "/",
    Labels: {
      "org.opencontainers.image.title": "sockerless",
      "org.opencontainers.image.version": version,
    },
  },
});
console.log(`${reference}@${digest}`);

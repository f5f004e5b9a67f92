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
import { applicationFiles, baseFiles, packageFiles, runtimeFiles, user } from "./image/contents.ts";
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

const program = "/opt/sockerless/dist/bundle/cli/sockerless.js";
/** The loopback interface is the container's own, and nothing has to be writable for it. */
const readiness = "tcp://127.0.0.1:9323";
/** In nanoseconds, as the image's configuration has times. */
const second = 1_000_000_000;

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
    Entrypoint: [...["node", "--disable-sigusr1", "--enable-source-maps", "--expose-gc"], program],
    Cmd: ["--help"],
    Env: [
      ...["PATH=/usr/local/bin:/usr/bin:/bin", "NODE_ENV=production", "MALLOC_ARENA_MAX=2"],
      // State, sockets, and the authority over agents of the user who is not root.
      ...["XDG_STATE_HOME=/var/lib", "XDG_RUNTIME_DIR=/run/sockerless", "XDG_CONFIG_HOME=/etc"],
      `SOCKERLESS_METRICS_ADDR=${readiness}`,
    ],
    // The variable has to tell the address of a daemon whose metrics are elsewhere.
    Healthcheck: {
      Test: ["CMD", "node", program, "healthcheck"],
      Interval: 30 * second,
      Timeout: 15 * second,
      StartPeriod: 60 * second,
      Retries: 3,
    },
    User: `${user}:${user}`,
    WorkingDir: "/",
    Labels: {
      "org.opencontainers.image.title": "sockerless",
      "org.opencontainers.image.version": version,
    },
  },
});
console.log(`${reference}@${digest}`);
